// Package kittapi is a client of the KITT server (versions 1.7): what an agent
// says to it and what it answers, in the server's own forms.
//
// A [Client] is an agent.Server, an agent.Reporter, an agent.Checker and an
// agent.Inquirer, so it is all that an agent needs of a server. Each call makes
// one request and says how it went; when to try again is the agent's business.
//
// # What counts as the server's word
//
// Between agent and server there are proxies, login pages and restarts. Only an
// answer in JSON that has the form of the call's counts as the server's word.
//
//	answer                                    error
//	2xx, JSON of the call's form              none
//	400, 403, 404 with {"error": text}        *agent.RefusedError, final
//	404 for the agent itself                  heartbeat.ErrUnknownAgent
//	401                                       ErrUnauthorized: worth another try
//	500                                       agent.ErrBroken: worth another try
//	Retry-After with 429 or 503               *agent.RetryAfterError
//	anything else: pages, 502, no answer      an outage: worth another try
//
// # What is sent
//
// One report that breaks its rules can stop a KITT server for everybody, so
// nothing foreign goes through as it came: see [CleanResult]. What is unknown is
// left out, since the server takes null for something else. Gigabytes of the
// wire are GiB; they become bytes here and nowhere else.
package kittapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// A Secret is a token. Printing or logging one shows no secret.
type Secret string

// String returns a text that is not the token.
func (Secret) String() string { return "[redacted]" }

// GoString returns a text that is not the token.
func (Secret) GoString() string { return "[redacted]" }

// LogValue returns a value that is not the token.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText writes a text that is not the token.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Config says which server, and how to speak to it. URL is required.
type Config struct {
	// URL is the server's address, such as https://server:8080.
	URL string

	// Token is the agent's own, ServerToken the operator's: a server that has
	// one takes logs and statuses only with it. Where it is empty, Token is
	// presented there too.
	Token       Secret
	ServerToken Secret

	// CAFile holds the certificates that the server's is checked against, in
	// place of the system's. CertFile and KeyFile hold the agent's own, shown
	// to whoever asks for one. All are PEM and read again when they change.
	CAFile   string
	CertFile string
	KeyFile  string

	// Insecure leaves the server's certificate unchecked.
	Insecure bool

	// Timeout bounds a whole call, its answer included. Defaults to 30 s.
	Timeout time.Duration

	// UserAgent is what the client calls itself. Defaults to kitt-agent.
	UserAgent string

	// Transport carries the requests, in place of one made from the fields
	// above; for tests.
	Transport http.RoundTripper
}

// Client speaks to one KITT server. Its methods are safe for concurrent use.
type Client struct {
	base        string
	token       Secret
	serverToken Secret
	userAgent   string
	timeout     time.Duration
	http        *http.Client
}

var (
	_ agent.Server   = (*Client)(nil)
	_ agent.Reporter = (*Client)(nil)
	_ agent.Checker  = (*Client)(nil)
	_ agent.Inquirer = (*Client)(nil)
)

// How long the parts of a call may take.
const (
	defaultTimeout   = 30 * time.Second
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second // a silent connection blocks a whole KITT server
)

// Bounds of answers, in bytes.
const (
	maxAnswer = 8 << 20
	maxLogs   = 512 << 20 // a test's whole log comes in one answer
)

// New returns a client of the server that cfg names. It makes no request.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("kittapi: URL %q is not of the form https://server:8080", cfg.URL)
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("kittapi: URL may have no user, no ? and no #")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	transport := cfg.Transport
	if transport == nil {
		tlsConfig, err := newTLS(cfg, base.Hostname())
		if err != nil {
			return nil, fmt.Errorf("kittapi: %w", err)
		}
		transport = newTransport(tlsConfig)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "kitt-agent"
	}
	return &Client{
		base:        base.String(),
		token:       cfg.Token,
		serverToken: cfg.ServerToken,
		userAgent:   cfg.UserAgent,
		timeout:     cfg.Timeout,
		http: &http.Client{
			Transport: transport,
			// A redirect would carry the token to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// newTransport returns a transport for a server that closes every connection.
func newTransport(tlsConfig *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: handshakeTimeout,
		DisableKeepAlives:   true,
		DisableCompression:  true,
	}
}

// ErrUnauthorized is matched by the error of a call whose token was not taken
// for lack of one. It may be a proxy's word, so the call is worth another try.
var ErrUnauthorized = errors.New("the server asks for a token; set token (and server_token, where the server has one) in agent.yaml")

// call is one request to the server.
type call struct {
	method string
	path   string // escaped, from /api on
	token  Secret
	body   any // encoded as JSON; nil for none
	limit  int64
	answer any // decoded into; must be of the call's form
	shape  func() bool
	decode func(text []byte, into any) error // json.Unmarshal if nil
}

// do makes a call.
func (c *Client) do(ctx context.Context, k call) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var body io.Reader
	if k.body != nil {
		text, err := encode(k.body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, c.base+"/api/v1"+k.path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if k.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(k.token))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	limit := k.limit
	if limit == 0 {
		limit = maxAnswer
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return fmt.Errorf("read answer of %s %s: %w", k.method, k.path, err)
	}
	if int64(len(text)) > limit {
		return fmt.Errorf("answer of %s %s is longer than %d bytes", k.method, k.path, limit)
	}
	if resp.StatusCode/100 == 2 {
		return k.accept(resp, text)
	}
	return refuse(k, resp, text)
}

// accept reads the answer of a call that went well.
func (k call) accept(resp *http.Response, text []byte) error {
	decode := k.decode
	if decode == nil {
		decode = json.Unmarshal
	}
	if !isJSON(resp.Header) || decode(text, k.answer) != nil || !k.shape() {
		return fmt.Errorf("%s %s was answered with status %d, but not by a KITT server (%s)",
			k.method, k.path, resp.StatusCode, glimpse(resp.Header, text))
	}
	return nil
}

// refuse makes an error of an answer that is none of success.
func refuse(k call, resp *http.Response, text []byte) error {
	said, own := apiError(resp.Header, text)
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%s %s: %w", k.method, k.path, ErrUnauthorized)
	case own && (status == http.StatusBadRequest || status == http.StatusForbidden || status == http.StatusNotFound):
		return &agent.RefusedError{Status: status, Message: said}
	case status == http.StatusInternalServerError:
		return fmt.Errorf("%s %s: %w (status 500)", k.method, k.path, agent.ErrBroken)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		err := fmt.Errorf("%s %s: the server is busy (status %d)", k.method, k.path, status)
		if after, ok := retryAfter(resp.Header); ok {
			return &agent.RetryAfterError{After: after, Err: err}
		}
		return err
	}
	return fmt.Errorf("%s %s was answered with status %d (%s)", k.method, k.path, resp.StatusCode, glimpse(resp.Header, text))
}

// apiError returns the text of an error in the API's form, and whether it is
// one.
func apiError(head http.Header, text []byte) (string, bool) {
	var body struct {
		Error *string `json:"error"`
	}
	if !isJSON(head) || json.Unmarshal(text, &body) != nil || body.Error == nil {
		return "", false
	}
	return clip(*body.Error), true
}

func isJSON(head http.Header) bool {
	kind, _, err := mime.ParseMediaType(head.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// glimpse says in a few words what kind of answer it was.
func glimpse(head http.Header, text []byte) string {
	kind := head.Get("Content-Type")
	if kind == "" {
		kind = "no content type"
	}
	if location := head.Get("Location"); location != "" {
		kind += ", sent on to " + clip(location)
	}
	return fmt.Sprintf("%s, %d bytes", clip(kind), len(text))
}

// clip shortens foreign text for an error.
func clip(text string) string {
	const most = 200
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// retryAfter reads the header of that name: seconds, or a time.
func retryAfter(head http.Header) (time.Duration, bool) {
	text := strings.TrimSpace(head.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	now := time.Now()
	if date, err := http.ParseTime(head.Get("Date")); err == nil {
		now = date // by the server's own clock
	}
	return max(at.Sub(now), 0), true
}

// explain adds to a request's error what an operator can do about it.
func (c *Client) explain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its text repeats the address
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("the server's certificate is not trusted: %w; set tls.ca in agent.yaml to the CA that signed it", e.Err)
	}
	return fmt.Errorf("%s cannot be reached: %w", c.base, err)
}

// encode encodes v as JSON. Text that is no UTF-8 becomes U+FFFD, and no lone
// surrogate is ever written: either would break the server.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// statusToken returns the token for logs and statuses.
func (c *Client) statusToken() Secret {
	if c.serverToken != "" {
		return c.serverToken
	}
	return c.token
}

// agentRefused makes of the server's word on the agent itself what an operator
// can act on.
func (c *Client) agentRefused(err error) error {
	refused, ok := errors.AsType[*agent.RefusedError](err)
	switch {
	case !ok:
		return err
	case refused.Status == http.StatusNotFound:
		return fmt.Errorf("%w (%s)", heartbeat.ErrUnknownAgent, refused.Message)
	case refused.Status == http.StatusForbidden:
		return &agent.RefusedError{Status: refused.Status, Message: refused.Message +
			": the token in agent.yaml is not, or no longer, this agent's; the server replaces it whenever" +
			" its install script is asked for under this name. Rotate the token on the server and write the new one into agent.yaml"}
	}
	return err
}
