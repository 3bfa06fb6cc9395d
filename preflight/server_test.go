package preflight

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "KITT CA"},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

// sign returns a server certificate; a nil authority signs it with its own key.
func (a *authority) sign(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePEM(t testing.TB, kind string, der []byte) string {
	path := filepath.Join(t.TempDir(), kind+".pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// healthy answers like a KITT server with a clock skew.
func healthy(skew time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(skew).UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/api/v1/health" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, `{"status":"ok"}`)
	})
}

func serveTLS(t testing.TB, cert tls.Certificate, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func look(t testing.TB, cfg ServerConfig) (server, clock Result) {
	if cfg.Limit == 0 {
		cfg.Limit = 5 * time.Second
	}
	a, b := Server(cfg)
	results := Run(t.Context(), []Check{a, b}, nil)
	require.Equal(t, "server", results[0].Name)
	require.True(t, results[0].Required)
	require.False(t, results[1].Required)
	return results[0], results[1]
}

func TestServerWithCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	caFile := writePEM(t, "CERTIFICATE", ca.cert.Raw)
	past := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0)
	}
	future := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().AddDate(1, 0, 0), time.Now().AddDate(2, 0, 0)
	}
	elsewhere := func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"kitt.lan"}, nil }
	for _, tt := range []struct {
		name   string
		cert   tls.Certificate
		skew   time.Duration
		ca     string
		want   Status
		words  []string
		absent []string
	}{
		{name: "good", cert: ca.sign(t, nil), ca: caFile, want: OK, words: []string{"answers"}},
		{name: "self-signed", cert: (*authority)(nil).sign(t, nil), want: Fail, words: []string{"self-signed"}, absent: []string{"clock", "not for"}},
		{name: "self-signed, another CA configured", cert: (*authority)(nil).sign(t, nil), ca: caFile, want: Fail, words: []string{"self-signed"}},
		{name: "unknown CA", cert: ca.sign(t, nil), want: Fail, words: []string{`signed by "KITT CA"`, "does not trust"}},
		{name: "another CA", cert: other.sign(t, nil), ca: caFile, want: Fail, words: []string{"not the configured CA"}},
		{name: "name mismatch", cert: ca.sign(t, elsewhere), ca: caFile, want: Fail, words: []string{"not for 127.0.0.1 but for kitt.lan"}, absent: []string{"CA", "clock"}},
		{name: "expired", cert: ca.sign(t, past), ca: caFile, want: Fail, words: []string{"expired on"}, absent: []string{"clock", "CA"}},
		{name: "our clock is ahead", cert: ca.sign(t, past), skew: -time.Hour * 24 * 547, ca: caFile, want: Fail, words: []string{"this machine's clock is wrong", "ahead of"}, absent: []string{"expired", "CA"}},
		{name: "our clock is behind", cert: ca.sign(t, future), skew: time.Hour * 24 * 547, ca: caFile, want: Fail, words: []string{"this machine's clock is wrong", "behind"}},
		{name: "not valid yet", cert: ca.sign(t, future), ca: caFile, want: Fail, words: []string{"valid only from"}},
		{name: "all at once", cert: (*authority)(nil).sign(t, func(c *x509.Certificate) { past(c); elsewhere(c) }), want: Fail, words: []string{"expired", "self-signed", "not for"}},
		{name: "for clients only", cert: ca.sign(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), ca: caFile, want: Fail, words: []string{"cannot be used for a server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serveTLS(t, tt.cert, healthy(tt.skew))
			r, _ := look(t, ServerConfig{URL: s.URL, CA: tt.ca})
			require.Equal(t, tt.want, r.Status, r.Details)
			for _, w := range tt.words {
				require.Contains(t, r.Details, w)
			}
			for _, w := range tt.absent {
				require.NotContains(t, r.Details, w)
			}
			require.Equal(t, tt.want == Fail, r.Fix != "")

			r, _ = look(t, ServerConfig{URL: s.URL + "/", CA: tt.ca, Insecure: true})
			require.Equal(t, Warn, r.Status, "with --insecure: %s", r.Details)
			if tt.want == Fail {
				require.Contains(t, r.Details, tt.words[0])
			}
		})
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		skew  time.Duration
		want  Status
		words string
	}{
		{0, OK, "within"},
		{5 * time.Minute, Warn, "5m0s behind the server's"},
		{-time.Hour, Warn, "1h0m0s ahead of the server's"},
	} {
		s := httptest.NewServer(healthy(tt.skew))
		defer s.Close()
		server, clock := look(t, ServerConfig{URL: s.URL})
		require.Equal(t, OK, server.Status)
		require.Equal(t, tt.want, clock.Status)
		require.Contains(t, clock.Details, tt.words)
	}
}

func TestNotAKITTServer(t *testing.T) {
	t.Parallel()
	page := func(status int, header map[string]string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		words   string
	}{
		{"a proxy's page with status 200", page(200, nil, "<html><title> Sign in \n to ACME</title>"), `the page "Sign in to ACME"`},
		{"an endless title", page(200, nil, "<title>"+strings.Repeat("x", 1000)+"</title>"), "x…"},
		{"a redirect", page(302, map[string]string{"Location": "http://login.lan/"}, ""), "redirects to http://login.lan/"},
		{"a proxy that requires a password", page(407, nil, ""), "requires a password"},
		{"a proxy without its server", page(502, nil, "<html>Bad Gateway"), "cannot reach the KITT server (502)"},
		{"another service", page(404, map[string]string{"Content-Type": "text/plain"}, "404"), "(404, text/plain)"},
		{"JSON of another kind", page(200, nil, `[1]`), "something other than a KITT server"},
		{"a starting server", page(200, nil, `{"status":"starting"}`), `"starting"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(tt.handler)
			defer s.Close()
			r, _ := look(t, ServerConfig{URL: s.URL})
			require.Equal(t, Fail, r.Status)
			require.Contains(t, r.Details, tt.words)
			require.NotEmpty(t, r.Fix)
		})
	}
}

func TestServerNotReached(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	plain := httptest.NewServer(healthy(0))
	t.Cleanup(plain.Close)
	secure := serveTLS(t, newAuthority(t).sign(t, nil), healthy(0))
	// No label is that long, so no name server is asked.
	unknown := strings.Repeat("kitt", 16) + ".invalid"
	reset := listen(t, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() })

	for _, tt := range []struct{ name, url, words, fix string }{
		{"none configured", "", "no server is configured", "kitt-agent init"},
		{"no address", "kitt.lan:8080", "not an http or https address", "https://"},
		{"closed port", closed.URL, "nothing listens on", "kitt web"},
		{"unknown name", "http://" + unknown + ":8080", unknown + " cannot be resolved", "name servers"},
		{"http to an https port", "http" + strings.TrimPrefix(secure.URL, "https"), "https", "https://"},
		{"http to an https port that disconnects", "http://" + reset, "as https ports do", "https://"},
		{"https to an http port", "https" + strings.TrimPrefix(plain.URL, "http"), "does not use https", "http://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, clock := look(t, ServerConfig{URL: tt.url})
			require.Equal(t, Fail, r.Status)
			require.Contains(t, r.Details, tt.words)
			require.Contains(t, r.Fix, tt.fix)
			if tt.name != "http to an https port" {
				require.Equal(t, Skip, clock.Status)
			}
		})
	}
}

// listen accepts connections and hands each to handle.
func listen(t *testing.T, handle func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			handle(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestServerAcceptsAndNeverAnswers(t *testing.T) {
	t.Parallel()
	address := listen(t, func(net.Conn) {})
	for _, scheme := range []string{"http", "https"} {
		start := time.Now()
		r, _ := look(t, ServerConfig{URL: scheme + "://" + address, Limit: 300 * time.Millisecond})
		require.Less(t, time.Since(start), 2*time.Second)
		require.Equal(t, Fail, r.Status)
		require.Contains(t, r.Details, "accepts connections but did not answer within 300ms")
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	caFile := writePEM(t, "CERTIFICATE", ca.cert.Raw)
	s := httptest.NewUnstartedServer(healthy(0))
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.sign(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.StartTLS()
	t.Cleanup(s.Close)

	r, _ := look(t, ServerConfig{URL: s.URL, CA: caFile})
	require.Contains(t, r.Details, "requires a client certificate")

	client := ca.sign(t, nil)
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	require.NoError(t, err)
	cfg := ServerConfig{URL: s.URL, CA: caFile, Cert: writePEM(t, "CERTIFICATE", client.Certificate[0]), Key: writePEM(t, "EC PRIVATE KEY", key)}
	r, _ = look(t, cfg)
	require.Equal(t, OK, r.Status, r.Details)

	cfg.Key = "absent.pem"
	r, _ = look(t, cfg)
	require.Contains(t, r.Details, "the client certificate cannot be used: absent.pem")
	cfg.CA = "absent.pem"
	r, _ = look(t, cfg)
	require.Contains(t, r.Details, "the CA file cannot be read: absent.pem")
	cfg.CA = cfg.Cert[:len(cfg.Cert)-len("CERTIFICATE.pem")] + "empty.pem"
	require.NoError(t, os.WriteFile(cfg.CA, []byte("nothing"), 0o600))
	r, _ = look(t, cfg)
	require.Contains(t, r.Details, "the CA file has no certificate")
}

func FuzzPageTitle(f *testing.F) {
	f.Add([]byte("<TITLE>x</title>"))
	f.Add([]byte("<title>İ</title>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		require.LessOrEqual(t, len([]rune(pageTitle(body))), 60)
		answer{status: 200, body: body}.result(mustURL("http://x"))
	})
}

func ExampleRun() {
	room := Func{Label: "space for results", Do: func(context.Context) Result {
		return Result{Status: Warn, Details: "the disk is full", Fix: "delete old results"}
	}}
	results := Run(context.Background(), []Check{room}, func(r Result) { fmt.Printf("%s  %s: %s\n", r.Status, r.Name, r.Details) })
	fmt.Println("exit status", ExitStatus(results))
	// Output:
	// warn  space for results: the disk is full
	// exit status 0
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
