package agent_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// routes are those of the API, and some that it doesn't have.
var routes = []string{
	"POST /api/commands", "GET /api/logs/aa", "GET /api/engines", "GET /api/gpus", "POST /api/stop", "GET /api/status", "GET /healthz", "GET /readyz", "GET /metrics",
	"OPTIONS /api/commands", "HEAD /api/status", "GET /", "POST /api/logs/aa",
}

// send hands the handler one request from this machine and returns its answer.
// Of the changes one named Host changes that.
func send(t *testing.T, a *agent.Agent, route, body string, changes map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:8090", "127.0.0.1:5"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range changes {
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w
}

// newIdle returns an agent that was not started.
func newIdle(t *testing.T, cfg agent.Config) *agent.Agent {
	t.Helper()
	cfg.Name, cfg.Dir, cfg.Server, cfg.Runner = "x", t.TempDir(), &agenttest.Server{}, &play{run: hangs}
	a, err := agent.New(cfg)
	require.NoError(t, err)
	return a
}

// What a browser sends for a page of another origin is refused on every route,
// whether the agent has a token or not, and even if the page knows the token.
func TestAPIRefusesWebPages(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string]map[string]string{
		"another site":         {"Sec-Fetch-Site": "cross-site"},
		"another port":         {"Sec-Fetch-Site": "same-site"},
		"an unknown word":      {"Sec-Fetch-Site": "else"},
		"a foreign origin":     {"Origin": "https://attacker.test"},
		"no origin to tell":    {"Origin": "null"},
		"another local server": {"Origin": "http://127.0.0.1:3000"},
		"an origin's lookalike": {
			"Origin": "http://127.0.0.1:8090.attacker.test",
		},
		"a rebound name": {
			"Host": "attacker.test:8090", "Sec-Fetch-Site": "same-origin", "Origin": "http://attacker.test:8090",
		},
		"a rebound name over http":    {"Host": "attacker.test:8090", "User-Agent": "Mozilla/5.0", "Accept-Language": "en"},
		"its user agent changed":      {"Host": "attacker.test:8090", "User-Agent": "curl/8", "Accept-Language": ""},
		"a name like an address":      {"Host": "127.0.0.1.attacker.test", "Accept-Language": "en"},
		"a name below localhost's":    {"Host": "localhost.attacker.test", "Accept-Language": "en"},
		"a rebound name, typed in":    {"Host": "attacker.test:8090", "Sec-Fetch-Site": "none"},
		"a rebound name with a dot":   {"Host": "attacker.test.:8090", "Referer": "http://attacker.test.:8090/"},
		"an app's page":               {"Origin": "capacitor://127.0.0.1:8090"},
		"an origin with a user":       {"Origin": "http://attacker.test@127.0.0.1:8090"},
		"an origin that is no origin": {"Origin": "127.0.0.1:8090"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, token := range []agent.Secret{"", apiToken} {
				a := newIdle(t, agent.Config{Token: token, AllowedHosts: []string{"gpu.example"}})
				for _, route := range routes {
					for _, sent := range []string{"", apiToken} {
						changes := map[string]string{"Authorization": "Bearer " + sent}
						for k, v := range headers {
							changes[k] = v
						}
						body := ""
						if strings.HasPrefix(route, "POST") {
							body = `{"mode":"cancel","type":"cancel","command_id":"aa"}`
						}
						w := send(t, a, route, body, changes)
						require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", route, w.Body)
						require.Contains(t, w.Body.String(), `{"error":"Forbidden: `)
						require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
					}
				}
			}
		})
	}
}

func TestAPIAnswersToItsOwnNames(t *testing.T) {
	t.Parallel()
	machine, err := os.Hostname()
	require.NoError(t, err)
	own := []string{
		"127.0.0.1:8090", "127.0.0.1", "10.1.2.3:8090", "[::1]:8090", "[::1]", "[fe80::1%25eth0]:8090", "::1",
		"localhost:8090", "LOCALHOST", "localhost.", "localhost.:8090", machine, strings.ToUpper(machine) + ":8090",
		"gpu.example", "GPU.example:8090", "gpu.example.", "",
	}
	browser := map[string]string{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)", "Accept-Language": "en", "Sec-Fetch-Site": "none"}
	for _, token := range []agent.Secret{"", apiToken} {
		a := newIdle(t, agent.Config{Token: token, AllowedHosts: []string{"gpu.example", "::1"}})
		for _, host := range own {
			for _, headers := range []map[string]string{{}, browser} {
				headers["Host"] = host
				require.Equal(t, http.StatusOK, send(t, a, "GET /api/status", "", headers).Code, "%q", host)
			}
		}
		// Its own page, if it had one.
		same := map[string]string{"Host": "gpu.example:8090", "Origin": "http://gpu.example:8090", "Sec-Fetch-Site": "same-origin", "Authorization": "Bearer " + apiToken}
		require.Equal(t, http.StatusBadRequest, send(t, a, "POST /api/stop", `{"mode":"x"}`, same).Code)

		// A monitor or a proxy that knows the machine by another name.
		status := http.StatusOK
		if token == "" {
			status = http.StatusForbidden
		}
		for _, client := range []map[string]string{{"User-Agent": "curl/8.5.0", "Accept": "*/*"}, {"User-Agent": "Prometheus/3.0", "Accept-Encoding": "gzip"}, {}} {
			client["Host"] = "gpu-7.monitoring.internal:8090"
			w := send(t, a, "GET /api/status", "", client)
			require.Equal(t, status, w.Code)
			if token == "" {
				require.Contains(t, w.Body.String(), `does not answer to the name \"gpu-7.monitoring.internal\"; use its address, or add the name to allowed_hosts`)
			}
		}
	}
}

// Over TLS a page that came over plain http is another origin.
func TestAPIOverTLSIsAnotherOrigin(t *testing.T) {
	t.Parallel()
	a := newIdle(t, agent.Config{})
	for origin, status := range map[string]int{"https://127.0.0.1:8090": http.StatusOK, "http://127.0.0.1:8090": http.StatusForbidden} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/status", nil)
		r.Host, r.RemoteAddr, r.TLS = "127.0.0.1:8090", "127.0.0.1:5", &tls.ConnectionState{}
		r.Header.Set("Origin", origin)
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		require.Equal(t, status, w.Code, origin)
	}
}

// A form can send these to another origin without asking. Whoever reads this API
// by hand gets told the header.
func TestAPITakesJSONOnly(t *testing.T) {
	t.Parallel()
	a := newIdle(t, agent.Config{Token: apiToken})
	for kind, status := range map[string]int{
		"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "multipart/form-data; boundary=x": 415, "text/plain; application/json": 415,
		"application/jsonp": 415, "application/json, text/plain": 415, "application/json;x": 415,
		"application/json": 503, "Application/JSON; charset=utf-8": 503, "application/json;charset=UTF-8": 503,
	} {
		w := send(t, a, "POST /api/commands", `{"type":"cancel","command_id":"aa"}`, map[string]string{"Content-Type": kind, "Authorization": "Bearer " + apiToken})
		require.Equal(t, status, w.Code, "%s: %s", kind, w.Body)
		require.Equal(t, status == 415, strings.Contains(w.Body.String(), "Content-Type: application/json"), kind)
	}
	require.Equal(t, 400, send(t, a, "POST /api/stop", "", map[string]string{"Authorization": "Bearer " + apiToken}).Code, "there is no body to be of another type")

	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/stop", struct{ *strings.Reader }{strings.NewReader(`{"mode":"cancel"}`)})
	require.EqualValues(t, -1, r.ContentLength, "in chunks")
	r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:5"
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	require.Equal(t, 415, w.Code)
}

// The log has it once, in one line, whatever the page calls itself.
func TestRefusedPagesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	a := newIdle(t, agent.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		send(t, a, "GET /api/status", "", map[string]string{"Host": strings.Repeat("x", 5000) + "\x1b[2J\n"})
	}
	_, refused, _ := strings.Cut(log.String(), `msg="API request refused"`)
	require.Equal(t, 1, strings.Count(refused, "\n"), "%s", &log)
	require.Less(t, len(refused), 1500)
	require.NotContains(t, log.String(), "\x1b")
}

// Over real HTTP, where the server sees the addresses itself.
func TestARunningAgentRefusesARebindingPage(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Listener: listener})
	defer stop()
	<-a.Ready()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String()) // as a rebound name resolves
	}}}
	for url, status := range map[string]int{"http://attacker.test:8090": 403, "http://localhost:8090": 202, "http://" + listener.Addr().String(): 202} {
		resp, err := client.Post(url+"/api/commands", "application/json", strings.NewReader(`{"type":"run_test","command_id":"aa","payload":{"model_path":"m"}}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, url)
	}
}

func TestAllowedHostsAreNames(t *testing.T) {
	t.Parallel()
	_, err := agent.New(agent.Config{Name: "x", Dir: "d", Server: &agenttest.Server{}, Runner: &play{run: hangs},
		AllowedHosts: []string{"gpu.example", "10.0.0.7", "::1", "gpu:8090", "http://gpu", "", "*", "a b"}})
	for _, wrong := range []string{`"gpu:8090"`, `"http://gpu"`, `""`, `"*"`, `"a b"`} {
		require.ErrorContains(t, err, "AllowedHosts: "+wrong+" is not a host name")
	}
	for _, right := range []string{"gpu.example", "10.0.0.7", "::1"} {
		require.NotContains(t, err.Error(), `"`+right+`"`)
	}
}
