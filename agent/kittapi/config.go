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

// DefaultTimeout bounds one request, from the name's look-up to the last byte of
// the answer.
const DefaultTimeout = 30 * time.Second

// Config says which server a Client speaks to, and how. URL is required; the
// zero value of everything else means its default.
type Config struct {
	// URL is the server's address without the API's path, such as
	// https://kitt.example:8080.
	URL string

	// Token is the agent's own. Empty means none.
	Token agent.Secret

	// ServerToken is the operator's token, which the server was started with.
	// It is used for logs, statuses and launches, which such a server takes with
	// no other one. Empty means that Token is used.
	ServerToken agent.Secret

	// CAFile holds the authorities that the server's certificate is checked
	// against, in place of the system's. CertFile and KeyFile hold the client's
	// own certificate, presented wherever one is asked for; each needs the other.
	// All are PEM and are read again when they change.
	CAFile   string
	CertFile string
	KeyFile  string

	// TLS is what connections over https are made with. The files and
	// Insecure are added to a copy of it. Defaults to the system's authorities.
	TLS *tls.Config

	// Insecure accepts any certificate of the server. A configured client
	// certificate is presented all the same.
	Insecure bool

	// Transport carries the requests in place of the client's own, which opens a
	// connection for each. The files, TLS, Insecure and Proxy must then be empty.
	Transport http.RoundTripper

	// Proxy chooses a proxy for a request, as http.ProxyFromEnvironment does.
	// Defaults to none.
	Proxy func(*http.Request) (*url.URL, error)

	// Timeout bounds one request as a whole. Defaults to DefaultTimeout.
	Timeout time.Duration

	// UserAgent is what the client calls itself. Defaults to kitt-agent.
	UserAgent string

	// Logger takes what an operator wants to know; nil discards it.
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
		return "", errors.New("URL cannot be read as an address") // its text may hold a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("URL %q has to begin with http:// or https:// and a host", u.Redacted())
	case u.User != nil:
		return "", errors.New("URL holds a user or password, which a KITT server has no use for")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("URL %q has to end with the host, port or path", u.Redacted())
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
		faults = append(faults, fmt.Errorf("a Timeout of %s is negative", cfg.Timeout))
	}
	if cfg.Transport != nil && (strings.Join(cfg.files(), "") != "" || cfg.TLS != nil || cfg.Insecure || cfg.Proxy != nil) {
		faults = append(faults, errors.New("the Transport would ignore CAFile, CertFile, KeyFile, TLS, Insecure and Proxy"))
	}
	if rules.Token(cfg.Token.Reveal()) != nil {
		faults = append(faults, errors.New("the Token holds blanks or characters outside ASCII, which no server takes"))
	}
	if rules.Token(cfg.ServerToken.Reveal()) != nil {
		faults = append(faults, errors.New("the ServerToken holds blanks or characters outside ASCII, which no server takes"))
	}
	return errors.Join(faults...)
}

// files returns the names of the certificate files, empty where there is none.
func (cfg Config) files() []string { return []string{cfg.CAFile, cfg.CertFile, cfg.KeyFile} }
