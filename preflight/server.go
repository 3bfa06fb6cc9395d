package preflight

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A ServerConfig configures how the agent connects to its server.
type ServerConfig struct {
	URL string // as in agent.yaml, without a path

	// CA, Cert and Key are the PEM files of the tls settings. The default for
	// CA is the system's authorities, that for Cert and Key no client
	// certificate.
	CA, Cert, Key string

	// Insecure accepts any certificate, as --insecure does. The check still
	// reports what is wrong with it.
	Insecure bool

	// Proxy returns the proxy for a request. Defaults to none.
	Proxy func(*http.Request) (*url.URL, error)

	// Limit is the time limit of each check. Defaults to DefaultLimit.
	Limit time.Duration

	// MaxSkew is the largest accepted difference between the server's clock and
	// this machine's. Defaults to 30 s.
	MaxSkew time.Duration
}

// Server returns two checks that share one request to the server: that it answers
// GET /api/v1/health, which is required, and that its clock agrees with this
// machine's. The request is made once; new checks make a new one.
func Server(cfg ServerConfig) (reachable, clock Check) {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = 30 * time.Second
	}
	p := &serverProbe{cfg: cfg}
	reachable = Func{Label: "server", Must: true, Time: cfg.Limit, Do: func(ctx context.Context) Result {
		p.once.Do(func() { p.result = p.run(ctx) })
		return p.result
	}}
	clock = Func{Label: "clock", Time: cfg.Limit, Do: func(ctx context.Context) Result {
		p.once.Do(func() { p.result = p.run(ctx) })
		return p.clockResult()
	}}
	return reachable, clock
}

// A serverProbe makes the request and has its results.
type serverProbe struct {
	cfg    ServerConfig
	once   sync.Once     // the fields below are set in it
	result Result        // of the check that the server answers
	skew   time.Duration // this machine's clock minus the server's
	dated  bool          // whether the server sent its time
}

func (p *serverProbe) clockResult() Result {
	switch {
	case !p.dated:
		return Result{Status: Skip, Details: "the server sent no time to compare with"}
	case p.skew.Abs() > p.cfg.MaxSkew:
		return Result{Status: Warn, Details: "this machine's clock is " + ahead(p.skew) + " the server's", Fix: "timedatectl set-ntp true"}
	}
	return Result{Status: OK, Details: fmt.Sprintf("within %s of the server's", max(p.skew.Abs().Round(time.Second), time.Second))}
}

func ahead(skew time.Duration) string {
	if skew < 0 {
		return (-skew).Round(time.Second).String() + " behind"
	}
	return skew.Round(time.Second).String() + " ahead of"
}

// run makes the request.
func (p *serverProbe) run(ctx context.Context) Result {
	u, err := url.Parse(strings.TrimRight(p.cfg.URL, "/"))
	switch {
	case p.cfg.URL == "":
		return Result{Status: Fail, Details: "no server is configured", Fix: "kitt-agent init --server https://HOST:8080"}
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return Result{Status: Fail, Details: fmt.Sprintf("%q is not an http or https address", p.cfg.URL), Fix: "set server_url to https://HOST:PORT"}
	}
	tlsConfig, r := p.cfg.tls(u)
	if r.Status != "" {
		return r
	}
	answer, err := p.get(ctx, u, tlsConfig)
	if err != nil {
		return p.explain(ctx, u, tlsConfig, err)
	}
	r = answer.result(u)
	if r.Status == OK && p.cfg.Insecure && u.Scheme == "https" {
		r.Status, r.Details = Warn, r.Details+", but its certificate is not verified (--insecure)"
		if problems := checkCertificate(answer.chain, tlsConfig, u.Hostname(), p.serverTime()); len(problems) > 0 {
			r.Details += ": " + problems[0].text
			r.Fix = problems[0].fix
		}
	}
	return r
}

// tls returns the TLS settings, or a failed Result if a file cannot be used.
func (cfg ServerConfig) tls(u *url.URL) (*tls.Config, Result) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), InsecureSkipVerify: cfg.Insecure}
	if u.Scheme != "https" {
		return c, Result{}
	}
	if cfg.CA != "" {
		text, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, Result{Status: Fail, Details: "the CA file cannot be read: " + plainError(err), Fix: "copy the server's ca.pem to " + cfg.CA}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, Result{Status: Fail, Details: "the CA file has no certificate: " + cfg.CA, Fix: "copy the server's ca.pem to " + cfg.CA}
		}
	}
	if cfg.Cert != "" || cfg.Key != "" {
		pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
		if err != nil {
			return nil, Result{Status: Fail, Details: "the client certificate cannot be used: " + plainError(err), Fix: "kitt-agent init"}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, Result{}
}

// An answer is the server's response.
type answer struct {
	status      int
	contentType string
	location    string
	body        []byte
	chain       []*x509.Certificate
}

// get requests the server's health and sets p.skew from the response.
func (p *serverProbe) get(ctx context.Context, u *url.URL, tlsConfig *tls.Config) (answer, error) {
	transport := &http.Transport{
		Proxy:             p.cfg.Proxy,
		TLSClientConfig:   tlsConfig,
		DisableKeepAlives: true, // an idle connection blocks a KITT server
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String()+"/api/v1/health", nil)
	if err != nil {
		return answer{}, err
	}
	sent := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The Date is truncated to the second, and was set between sent and now.
		p.skew = sent.Add(time.Since(sent) / 2).Sub(date.Add(500 * time.Millisecond))
		p.dated = true
	}
	a := answer{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), location: resp.Header.Get("Location")}
	if resp.TLS != nil {
		a.chain = resp.TLS.PeerCertificates
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return a, err
}

// result tells a KITT server from a proxy or another service.
func (a answer) result(u *url.URL) Result {
	var health struct {
		Status string `json:"status"`
	}
	isJSON := json.Unmarshal(a.body, &health) == nil
	switch {
	case a.status == http.StatusOK && isJSON && health.Status == "ok":
		return Result{Status: OK, Details: u.String() + " answers"}
	case a.status == http.StatusOK && isJSON && health.Status != "":
		return Result{Status: Fail, Details: fmt.Sprintf("the server reports the status %q", health.Status), Fix: "check the server's log"}
	case a.status >= 300 && a.status < 400:
		return Result{Status: Fail, Details: fmt.Sprintf("%s redirects to %s (%d)", u.Host, a.location, a.status), Fix: "set server_url to the address of the KITT server itself"}
	case a.status == http.StatusProxyAuthRequired:
		return Result{Status: Fail, Details: "a proxy requires a password (407)", Fix: "add " + u.Hostname() + " to no_proxy, or set the proxy's user and password in https_proxy"}
	case a.status == http.StatusBadRequest && u.Scheme == "http" && strings.Contains(strings.ToLower(string(a.body)), "https"):
		return Result{Status: Fail, Details: "the server uses https on this port", Fix: "set server_url to https://" + u.Host}
	case a.status == http.StatusBadGateway, a.status == http.StatusServiceUnavailable, a.status == http.StatusGatewayTimeout:
		return Result{Status: Fail, Details: fmt.Sprintf("a proxy answers that it cannot reach the KITT server (%d)", a.status), Fix: "check that `kitt web` runs behind the proxy"}
	}
	what := "something other than a KITT server answers"
	if title := pageTitle(a.body); title != "" {
		what += fmt.Sprintf(" with the page %q", title)
	}
	return Result{
		Status:  Fail,
		Details: fmt.Sprintf("%s (%d, %s): a proxy or another service", what, a.status, cmp.Or(a.contentType, "no content type")),
		Fix:     "open " + u.String() + "/api/v1/health in a browser; set server_url or no_proxy",
	}
}

// pageTitle returns the title of an HTML page, at most 60 characters of it.
func pageTitle(body []byte) string {
	lower := strings.ToLower(string(body))
	_, after, ok := strings.Cut(lower, "<title>")
	if !ok || len(lower) != len(body) {
		return ""
	}
	start := len(body) - len(after)
	end := strings.Index(after, "</title>")
	if end < 0 {
		return ""
	}
	title := []rune(strings.TrimSpace(base.OneLine(string(body[start : start+end]))))
	if len(title) > 60 {
		title = append(title[:59], '…')
	}
	return string(title)
}

// explain returns the Result for a request that got no answer.
func (p *serverProbe) explain(ctx context.Context, u *url.URL, tlsConfig *tls.Config, err error) Result {
	fail := func(fix, format string, args ...any) Result {
		return Result{Status: Fail, Details: fmt.Sprintf(format, args...), Fix: fix}
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return p.explainCertificate(ctx, u, tlsConfig, bad)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fail("check server_url and the machine's name servers", "the name %s cannot be resolved", dns.Name)
	}
	text := err.Error()
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case noTLS, strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fail("set server_url to http://"+u.Host, "the server does not use https on this port")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail("start the server with `kitt web`, or correct the port in server_url", "nothing listens on %s", u.Host)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail("check the network and the firewall", "there is no route to %s", u.Host)
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"), strings.Contains(text, "unknown certificate"):
		return fail("set tls.cert and tls.key in agent.yaml to a certificate that it accepts", "the server, or a proxy in front of it, requires a client certificate, or rejects this one")
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return p.explainTimeout(u)
	case u.Scheme == "http" && (isDisconnect(err) || strings.Contains(text, "malformed HTTP")):
		return fail("set server_url to https://"+u.Host, "the connection was closed without an answer, as https ports do with http")
	case isDisconnect(err), errors.Is(err, io.ErrUnexpectedEOF):
		return fail("check the server's log", "the server closed the connection without an answer")
	}
	return fail("", "%s", plainError(err))
}

// explainTimeout distinguishes a port that accepts no connection from a server
// that accepts one and doesn't answer. The time limit is over, so the second
// attempt is short.
func (p *serverProbe) explainTimeout(u *url.URL) Result {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), port), overrun/2)
	if err != nil {
		return Result{Status: Fail, Details: fmt.Sprintf("no connection to %s within %s", u.Host, p.cfg.Limit), Fix: "check the address, and whether a firewall drops the packets"}
	}
	conn.Close()
	return Result{
		Status:  Fail,
		Details: fmt.Sprintf("%s accepts connections but did not answer within %s", u.Host, p.cfg.Limit),
		Fix:     "restart the server: a single idle connection blocks its https",
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// plainError returns the text of err without the layers that don't help a user.
func plainError(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Path + ": " + path.Err.Error()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return err.Error()
}

// isDisconnect reports whether the other side closed the connection while the
// request was sent or before the answer came.
func isDisconnect(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}
