package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// quiet takes what a test server says about handshakes that are meant to fail.
var quiet = log.New(io.Discard, "", 0)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// configFor returns the settings of a client for the agent that server plays.
func configFor(server *httptest.Server) Config {
	return Config{URL: server.URL, Token: "secret", Source: "agent.yaml"}
}

// start serves handler as an agent, and returns a client for it.
func start(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return newClient(t, configFor(server))
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

func reply(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func TestCalls(t *testing.T) {
	t.Parallel()
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/api/status" && r.Header.Get("Authorization") != "Bearer secret" {
			reply(w, 401, `{"error": "Unauthorized"}`)
			return
		}
		switch r.Method + " " + r.URL.Path {
		case "GET /api/status":
			reply(w, 200, `{"name":"a","running":true,"active_containers":1,"active_streams":0,"storage":{"free_gb":7.5},
				"uptime_s":61.5,"jobs":[{"command_id":"c1","test_id":"t1","state":"running","log_lines":3}],"unknown":[1]}`)
		case "GET /api/engines":
			reply(w, 200, `{"engines":[]}`)
		case "POST /api/commands":
			reply(w, 202, `{"echo":`+string(body)+`}`)
		case "POST /api/stop":
			reply(w, 202, `{"stopping":true,"running":2}`)
		case "GET /healthz":
			reply(w, 503, `{"status":"stopping"}`)
		}
	})
	status, raw, err := c.Status(t.Context())
	require.NoError(t, err)
	require.Equal(t, "a", status.Name)
	require.Equal(t, 61.5, status.UptimeS)
	require.Equal(t, "c1", status.Job("t1").CommandID)
	require.Nil(t, status.Job("other"))
	require.Contains(t, string(raw), `"unknown":[1]`)

	engines, err := c.Engines(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"engines":[]}`, string(engines))

	answer, err := c.Command(t.Context(), Command{Type: "cancel", TestID: "t1"})
	require.NoError(t, err)
	require.JSONEq(t, `{"echo":{"type":"cancel","test_id":"t1"}}`, string(answer))

	running, err := c.Stop(t.Context(), StopDrain)
	require.NoError(t, err)
	require.Equal(t, 2, running)

	var api *APIError
	require.ErrorAs(t, c.Healthy(t.Context()), &api)
	require.Equal(t, "stopping", api.Message)
}

// The Python agent's answers, as recorded, are understood too.
func TestPythonAgent(t *testing.T) {
	t.Parallel()
	c := start(t, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, `{"active_containers":1,"active_streams":1,"name":"gpu-61","running":true,"storage":{"free_gb":74.29,"model_count":0,"used_gb":16.78}}`)
	})
	status, _, err := c.Status(t.Context())
	require.NoError(t, err)
	require.True(t, status.Running)
	require.Equal(t, 74.29, status.Storage.FreeGB)
	require.Zero(t, status.StartedAt)
}

func TestFailures(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"unauthorised", func(w http.ResponseWriter, _ *http.Request) { reply(w, 401, `{"error":"Unauthorized"}`) }, "another token than agent.yaml"},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { reply(w, 400, `{"error":"Invalid suite: x"}`) }, "Invalid suite: x (HTTP 400)"},
		{"page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "no KITT agent"},
		{"error page", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 502) }, "Bad Gateway (HTTP 502)"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://192.0.2.1/", 302) }, "HTTP 302"},
		{"too long", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(" ", maxAnswer+2))
		}, "longer than"},
		{"not an object", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, `[]`) }, "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := start(t, tt.handler).Status(t.Context())
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestNotRunning(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	c := newClient(t, configFor(server))
	server.Close()
	_, _, err := c.Status(t.Context())
	require.ErrorIs(t, err, ErrNotRunning)
	_, err = c.Follow(t.Context(), "x", nil)
	require.ErrorIs(t, err, ErrNotRunning)
}

func TestSilentAgent(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() // accepts, by the kernel, and says nothing
	c := newClient(t, Config{URL: "http://" + listener.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = c.Status(ctx)
	require.ErrorContains(t, err, "does not answer")
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = makeCert(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true,
		Subject: pkix.Name{CommonName: "KITT CA"}, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

func makeCert(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// pair returns a certificate for the given use.
func (a *authority) pair(t *testing.T, use x509.ExtKeyUsage, ips ...net.IP) tls.Certificate {
	t.Helper()
	cert, key := makeCert(t, &x509.Certificate{Subject: pkix.Name{CommonName: "agent-x"}, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{use}}, a)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	loopback := net.IPv4(127, 0, 0, 1)
	own := ca.pair(t, x509.ExtKeyUsageClientAuth) // as KITT makes them: for clients, no address
	renewed := ca.pair(t, x509.ExtKeyUsageServerAuth, loopback)
	elsewhere := ca.pair(t, x509.ExtKeyUsageServerAuth, net.IPv4(192, 0, 2, 1))
	foreign := stranger.pair(t, x509.ExtKeyUsageServerAuth, loopback)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	secured := func(t *testing.T, server *httptest.Server) Config {
		cfg := configFor(server)
		cfg.URL = "https://" + server.Listener.Addr().String()
		var err error
		cfg.TLS, err = OwnTLS(cfg.URL, own, roots)
		require.NoError(t, err)
		return cfg
	}

	tests := []struct {
		name   string
		served tls.Certificate
		want   string
	}{
		{"its own certificate", own, ""},
		{"a renewed one", renewed, ""},
		{"one for another machine", elsewhere, "another certificate than tls.cert"},
		{"one of another authority", foreign, "another certificate than tls.cert"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				reply(w, 200, fmt.Sprintf(`{"name":%q}`, r.TLS.PeerCertificates[0].Subject.CommonName))
			}))
			server.Config.ErrorLog = quiet
			server.TLS = &tls.Config{Certificates: []tls.Certificate{tt.served}, ClientAuth: tls.RequireAnyClientCert}
			server.StartTLS()
			defer server.Close()
			status, _, err := newClient(t, secured(t, server)).Status(t.Context())
			if tt.want != "" {
				require.ErrorContains(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "agent-x", status.Name, "the certificate is shown to an agent that asks for one")
		})
	}

	t.Run("http agent, https settings", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		defer server.Close()
		_, _, err := newClient(t, secured(t, server)).Status(t.Context())
		require.ErrorContains(t, err, "answers over http")
	})
	t.Run("https agent, http settings", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = quiet
		server.StartTLS()
		defer server.Close()
		cfg := configFor(server)
		cfg.URL = "http://" + server.Listener.Addr().String()
		_, _, err := newClient(t, cfg).Status(t.Context())
		require.ErrorContains(t, err, "HTTP 400")
	})
	t.Run("no certificate", func(t *testing.T) {
		t.Parallel()
		_, err := OwnTLS("https://127.0.0.1:1", tls.Certificate{}, nil)
		require.ErrorContains(t, err, "is empty")
	})
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8090", "localhost", "ftp://a", "http://", "http://a b"} {
		_, err := New(Config{URL: address})
		require.ErrorContains(t, err, "URL", address)
	}
	require.Equal(t, "http://a:1", newClient(t, Config{URL: "http://a:1/"}).URL())
}

// logServer imitates the log stream of an agent that is cut off now and then.
func logServer(total, cutAfter int, ids bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		first := 0
		if last := r.Header.Get("Last-Event-ID"); last != "" {
			n, _ := strconv.Atoi(last)
			first = n + 1
		}
		_, _ = io.WriteString(w, ": keepalive\r\n\r\n")
		for n := first; n < total; n++ {
			if n-first == cutAfter {
				panic(http.ErrAbortHandler)
			}
			if ids {
				fmt.Fprintf(w, "id: %d\n", n)
			}
			line, _ := json.Marshal(map[string]string{"command_id": r.PathValue("id"), "line": fmt.Sprintf("line %d", n)})
			fmt.Fprintf(w, "event: log\ndata: %s\n\n", line)
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.WriteString(w, `event: end`+"\n"+`data: {"command_id":"c","status":"failed","error":"Exit 1"}`+"\n\n")
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	c := start(t, logServer(25, 10, true))
	var lines []string
	end, err := c.Follow(t.Context(), "a b", func(e Event) error {
		lines = append(lines, e.Line())
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, End{Status: "failed", Error: "Exit 1"}, end)
	require.Len(t, lines, 25, "each line once, although the stream broke twice")
	for n, line := range lines {
		require.Equal(t, fmt.Sprintf("line %d", n), line)
	}
}

func TestFollowStops(t *testing.T) {
	t.Parallel()
	none := func(Event) error { return nil }

	c := start(t, logServer(25, 10, false))
	_, err := c.Follow(t.Context(), "c", none)
	require.ErrorIs(t, err, ErrNoResume)

	enough := errors.New("enough")
	_, err = start(t, logServer(25, 10, true)).Follow(t.Context(), "c", func(Event) error { return enough })
	require.ErrorIs(t, err, enough)

	c = start(t, func(w http.ResponseWriter, _ *http.Request) { reply(w, 404, `{"error":"No logs for this command"}`) })
	_, err = c.Follow(t.Context(), "c", none)
	require.ErrorContains(t, err, "No logs for this command")

	var tries atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	c = start(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 2 {
			cancel()
		}
		reply(w, 503, `{"error":"stopping"}`)
	})
	_, err = c.Follow(ctx, "c", none)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualValues(t, 2, tries.Load(), "an agent that is busy is asked again")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := newEventReader(strings.NewReader(": hello\n\nid: 7\ndata: a\ndata:b\n\nevent: gap\nretry: 5\ndata: {}\n\nevent: log\ndata: cut off"), func() {})
	e, err := r.next()
	require.NoError(t, err)
	require.Equal(t, Event{ID: "7", Type: "message", Data: json.RawMessage("a\nb")}, e)
	e, err = r.next()
	require.NoError(t, err)
	require.Equal(t, Event{Type: "gap", Data: json.RawMessage("{}")}, e)
	_, err = r.next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = newEventReader(strings.NewReader("data: "+strings.Repeat("x", maxEventLine)), func() {}).next()
	require.Error(t, err)
	require.Equal(t, "", Event{Data: json.RawMessage("{")}.Line())
}

// FuzzEvents holds that no stream crashes the reader, keeps it for ever or makes
// it hold more than its bound.
func FuzzEvents(f *testing.F) {
	f.Add("event: log\nid: 1\ndata: {}\n\n")
	f.Add(": k\r\n\r\ndata:\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := newEventReader(strings.NewReader(text), func() {})
		for n := 0; ; n++ {
			e, err := r.next()
			if err != nil {
				return
			}
			require.LessOrEqual(t, n, len(text))
			require.LessOrEqual(t, len(e.Data), 2*maxEventLine)
			_ = e.Line()
		}
	})
}
