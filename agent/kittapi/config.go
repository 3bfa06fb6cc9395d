package kittapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/rules"
)

// DefaultTimeout is the default time limit of a request, from the look-up of the
// name to the last byte of the answer.
const DefaultTimeout = 30 * time.Second

// Config configures a Client. URL is required; the zero value of every other field
// means its default.
type Config struct {
	// URL is the server's address without the API's path, such as
	// https://kitt.example:8080.
	URL string

	// Token is the agent's token. Defaults to none.
	Token agent.Secret

	// ServerToken is the operator's token, with which the server was started.
	// Such a server requires it for logs, statuses and launches. Defaults to
	// Token.
	ServerToken agent.Secret

	// ReadTokens, if set, returns Token and ServerToken as they are now. It is called
	// after an answer of 401 or 403. If it returns others than before, they are used
	// from then on, and the request is sent again.
	ReadTokens func() (token, serverToken agent.Secret)

	// CAFile has the authorities that may sign the server's certificate. Defaults
	// to the system's. CertFile and KeyFile have the client's certificate, which
	// is presented on request; set both or neither. All are PEM files and are
	// read again when they change.
	CAFile   string
	CertFile string
	KeyFile  string

	// TLS has further settings for https. The files and Insecure are added to a
	// copy of it. Defaults to the system's authorities.
	TLS *tls.Config

	// Insecure accepts any certificate of the server. A configured client
	// certificate is still presented.
	Insecure bool

	// Transport sends the requests. If it is set, the files, TLS, Insecure and
	// Proxy must be empty. Defaults to a transport with a new connection for each
	// request.
	Transport http.RoundTripper

	// Proxy returns the proxy for a request, like http.ProxyFromEnvironment.
	// Defaults to none.
	Proxy func(*http.Request) (*url.URL, error)

	// Timeout is the time limit of one request. Defaults to DefaultTimeout.
	Timeout time.Duration

	// UserAgent is the User-Agent header. Defaults to kitt-agent.
	UserAgent string

	// Logger receives changes to results, reloaded certificates and ignored parts
	// of answers. Defaults to discarding them.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "kitt-agent"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// base returns the API's address, without a trailing slash.
func (cfg Config) base() (string, error) {
	if cfg.URL == "" {
		return "", errors.New("URL is missing")
	}
	u, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	switch {
	case err != nil:
		return "", errors.New("URL is not a valid address") // err may contain a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("URL %q must begin with http:// or https:// and a host", u.Redacted())
	case u.User != nil:
		return "", errors.New("URL has a user or password, which a KITT server does not use; remove it")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("URL %q must end with the host, port or path", u.Redacted())
	}
	return u.String() + "/api/v1", nil
}

func (cfg Config) validate() error {
	var faults []error
	if _, err := cfg.base(); err != nil {
		faults = append(faults, err)
	}
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		faults = append(faults, errors.New("one of CertFile and KeyFile is missing"))
	}
	if cfg.Timeout < 0 {
		faults = append(faults, fmt.Errorf("Timeout %s is negative", cfg.Timeout))
	}
	if cfg.Transport != nil && (strings.Join(cfg.files(), "") != "" || cfg.TLS != nil || cfg.Insecure || cfg.Proxy != nil) {
		faults = append(faults, errors.New("Transport ignores CAFile, CertFile, KeyFile, TLS, Insecure and Proxy; set them in the transport"))
	}
	if rules.Token(cfg.Token.Reveal()) != nil {
		faults = append(faults, errors.New("Token has white space or characters outside ASCII, which servers reject"))
	}
	if rules.Token(cfg.ServerToken.Reveal()) != nil {
		faults = append(faults, errors.New("ServerToken has white space or characters outside ASCII, which servers reject"))
	}
	return errors.Join(faults...)
}

// files returns the names of the certificate files, which may be empty.
func (cfg Config) files() []string { return []string{cfg.CAFile, cfg.CertFile, cfg.KeyFile} }
