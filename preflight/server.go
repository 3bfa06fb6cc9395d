package preflight

import (
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

// A ServerConfig says how the agent reaches its server.
type ServerConfig struct {
	URL string // as in agent.yaml, without a path

	// CA, Cert and Key are the PEM files of the tls settings. Without a CA the
	// system's own authorities count; without the others no client certificate
	// is shown.
	CA, Cert, Key string

	// Insecure takes any certificate, as --insecure does. The check still says
	// what is wrong with it.
	Insecure bool

	// Proxy finds the proxy for a request. Defaults to none.
	Proxy func(*http.Request) (*url.URL, error)

	// Limit is the time for all of it. Defaults to DefaultLimit.
	Limit time.Duration

	// MaxSkew is how far the server's clock may be off. Defaults to 30 s.
	MaxSkew time.Duration
}

// Server returns two checks that share one visit to the server: whether it
// answers GET /api/v1/health, which is required, and whether its clock and ours
// agree. They look once; make new ones to look again.
func Server(cfg ServerConfig) (reachable, clock Check) {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = 30 * time.Second
	}
	v := &visit{cfg: cfg, done: make(chan struct{})}
	reachable = Func{Label: "server", Must: true, Time: cfg.Limit, Do: func(ctx context.Context) Result {
		v.once.Do(func() { defer close(v.done); v.result = v.pay(ctx) })
		<-v.done
		return v.result
	}}
	clock = Func{Label: "clock", Time: cfg.Limit, Do: func(ctx context.Context) Result {
		v.once.Do(func() { defer close(v.done); v.result = v.pay(ctx) })
		<-v.done
		return v.clockResult()
	}}
	return reachable, clock
}

// A visit is one look at the server.
type visit struct {
	cfg    ServerConfig
	once   sync.Once
	done   chan struct{}
	result Result
	skew   time.Duration // our clock minus the server's
	dated  bool          // whether the server gave its time
}

func (v *visit) clockResult() Result {
	switch {
	case !v.dated:
		return Result{Status: Skip, Details: "the server gave no time to compare with"}
	case v.skew.Abs() > v.cfg.MaxSkew:
		return Result{Status: Warn, Details: "this machine's clock is " + ahead(v.skew) + " the server's", Fix: "timedatectl set-ntp true"}
	}
	return Result{Status: OK, Details: fmt.Sprintf("within %s of the server's", max(v.skew.Abs().Round(time.Second), time.Second))}
}

func ahead(skew time.Duration) string {
	if skew < 0 {
		return (-skew).Round(time.Second).String() + " behind"
	}
	return skew.Round(time.Second).String() + " ahead of"
}

// pay visits the server.
func (v *visit) pay(ctx context.Context) Result {
	u, err := url.Parse(strings.TrimRight(v.cfg.URL, "/"))
	switch {
	case v.cfg.URL == "":
		return Result{Status: Fail, Details: "no server is configured", Fix: "kitt-agent init --server https://HOST:8080"}
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return Result{Status: Fail, Details: fmt.Sprintf("%q is no http or https address", v.cfg.URL), Fix: "set server_url to https://HOST:PORT"}
	}
	tlsConfig, r := v.cfg.tls(u)
	if r.Status != "" {
		return r
	}
	answer, err := v.get(ctx, u, tlsConfig)
	if err != nil {
		return v.explain(ctx, u, tlsConfig, err)
	}
	r = answer.judge(u)
	if r.Status == OK && v.cfg.Insecure && u.Scheme == "https" {
		r.Status, r.Details = Warn, r.Details+", but its certificate is not verified (--insecure)"
		if faults := judgeCertificate(answer.chain, tlsConfig, u.Hostname(), v.serverTime()); len(faults) > 0 {
			r.Details += ": " + faults[0].text
			r.Fix = faults[0].fix
		}
	}
	return r
}

// tls prepares the settings, or says what is wrong with the files.
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
			return nil, Result{Status: Fail, Details: "there is no certificate in the CA file " + cfg.CA, Fix: "copy the server's ca.pem to " + cfg.CA}
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

// An answer is what came back.
type answer struct {
	status int
	kind   string // Content-Type
	target string // Location
	body   []byte
	chain  []*x509.Certificate
}

// get asks for the server's health and notes its time.
func (v *visit) get(ctx context.Context, u *url.URL, tlsConfig *tls.Config) (answer, error) {
	transport := &http.Transport{
		Proxy:             v.cfg.Proxy,
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
		// The Date is cut to the second, and was set between sent and now.
		v.skew = sent.Add(time.Since(sent) / 2).Sub(date.Add(500 * time.Millisecond))
		v.dated = true
	}
	a := answer{status: resp.StatusCode, kind: resp.Header.Get("Content-Type"), target: resp.Header.Get("Location")}
	if resp.TLS != nil {
		a.chain = resp.TLS.PeerCertificates
	}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return a, err
}

// judge tells a KITT server from a proxy and its pages.
func (a answer) judge(u *url.URL) Result {
	var health struct {
		Status string `json:"status"`
	}
	isJSON := json.Unmarshal(a.body, &health) == nil
	switch {
	case a.status == http.StatusOK && isJSON && health.Status == "ok":
		return Result{Status: OK, Details: u.String() + " answers"}
	case a.status == http.StatusOK && isJSON && health.Status != "":
		return Result{Status: Fail, Details: fmt.Sprintf("the server says that its status is %q", health.Status), Fix: "look into the server's log"}
	case a.status >= 300 && a.status < 400:
		return Result{Status: Fail, Details: fmt.Sprintf("%s sends us on to %s (%d)", u.Host, a.target, a.status), Fix: "set server_url to the address of the KITT server itself"}
	case a.status == http.StatusProxyAuthRequired:
		return Result{Status: Fail, Details: "a proxy in between wants a password (407)", Fix: "put " + u.Hostname() + " into no_proxy, or give the proxy's user and password in https_proxy"}
	case a.status == http.StatusBadRequest && u.Scheme == "http" && strings.Contains(strings.ToLower(string(a.body)), "https"):
		return Result{Status: Fail, Details: "the server speaks https on this port", Fix: "set server_url to https://" + u.Host}
	case a.status == http.StatusBadGateway, a.status == http.StatusServiceUnavailable, a.status == http.StatusGatewayTimeout:
		return Result{Status: Fail, Details: fmt.Sprintf("a proxy answers that it cannot reach the KITT server (%d)", a.status), Fix: "look whether `kitt web` runs behind it"}
	}
	what := "something other than a KITT server answers"
	if title := pageTitle(a.body); title != "" {
		what += fmt.Sprintf(" with the page %q", title)
	}
	return Result{
		Status:  Fail,
		Details: fmt.Sprintf("%s (%d, %s): a proxy or another service", what, a.status, orNone(a.kind)),
		Fix:     "look at " + u.String() + "/api/v1/health in a browser; set server_url or no_proxy",
	}
}

func orNone(s string) string {
	if s == "" {
		return "no content type"
	}
	return s
}

// pageTitle returns the title of an HTML page, in short.
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

// explain says why there was no answer.
func (v *visit) explain(ctx context.Context, u *url.URL, tlsConfig *tls.Config, err error) Result {
	fail := func(fix, format string, args ...any) Result {
		return Result{Status: Fail, Details: fmt.Sprintf(format, args...), Fix: fix}
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return v.explainCertificate(ctx, u, tlsConfig, bad)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fail("check server_url and the machine's name servers", "the name %s cannot be resolved", dns.Name)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fail("set server_url to http://"+u.Host, "the server does not speak https on this port")
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fail("set server_url to http://"+u.Host, "the server does not speak https on this port")
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail("start the server with `kitt web`, or mend the port in server_url", "nothing listens on %s", u.Host)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail("check the network and the firewall", "there is no way to %s", u.Host)
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"), strings.Contains(text, "unknown certificate"):
		return fail("set tls.cert and tls.key in agent.yaml to a certificate that it accepts", "the server, or a proxy before it, wants a client certificate, or refuses ours")
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return v.explainSilence(u)
	case u.Scheme == "http" && (isCut(err) || strings.Contains(text, "malformed HTTP")):
		return fail("set server_url to https://"+u.Host, "the connection was cut without an answer, as an https port does to http")
	case isCut(err), errors.Is(err, io.ErrUnexpectedEOF):
		return fail("look into the server's log", "the server cut the connection without an answer")
	}
	return fail("", "%s", plainError(err))
}

// explainSilence tells a port that nobody answers on from a server that takes a
// connection and then keeps silent. There is no time left, so the second try is
// a short one.
func (v *visit) explainSilence(u *url.URL) Result {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), port), overrun/2)
	if err != nil {
		return Result{Status: Fail, Details: fmt.Sprintf("no connection to %s within %s", u.Host, v.cfg.Limit), Fix: "check the address, and whether a firewall drops the packets"}
	}
	conn.Close()
	return Result{
		Status:  Fail,
		Details: fmt.Sprintf("%s takes connections but did not answer within %s", u.Host, v.cfg.Limit),
		Fix:     "restart the server: a single silent connection blocks its https",
	}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// plainError drops the layers of words that say nothing to a person.
func plainError(err error) string {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Path + ": " + path.Err.Error()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return err.Error()
}

// isCut reports whether the other side broke the connection: while we waited for
// its answer, or already while we wrote.
func isCut(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
}
