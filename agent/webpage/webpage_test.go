package webpage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/webpage"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/enginetest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A site is a running agent with its page.
type site struct {
	t      *testing.T
	agent  *agent.Agent
	url    string
	stop   func()
	client *http.Client
}

// serve runs an agent with a page until stop, at the address of listener if there is one.
func serve(t *testing.T, cfg agent.Config, page webpage.Config, address string) *site {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	if cfg.Name == "" {
		cfg.Name = "gpu-01"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Server == nil {
		cfg.Server = &agenttest.Server{}
	}
	if cfg.Runner == nil {
		cfg.Runner = &runnertest.Fake{Hangs: true}
	}
	cfg.Engines = &enginetest.Fake{Statuses: []engine.Status{{Name: "vllm", Installed: true, Version: "0.6.4"}, {Name: "ollama", Installed: true, Running: true, Port: 11434}}}
	cfg.Listener = listener
	if cfg.Page == nil {
		cfg.Page = func(a *agent.Agent) http.Handler {
			page.Agent = a
			return webpage.New(page)
		}
	}
	a, err := agent.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-a.Ready()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	s := &site{t: t, agent: a, url: "http://" + listener.Addr().String(), client: &http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
	}}
	s.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(s.stop)
	return s
}

// submit has the agent run a benchmark of a model, and returns its id.
func (s *site) submit(model string) string {
	s.t.Helper()
	id, err := s.agent.Submit(agent.Benchmark{Model: model, Engine: "vllm", Suite: "standard"})
	require.NoError(s.t, err)
	return id
}

// awaitState waits until a job is in a state.
func (s *site) awaitState(id string, want agent.State) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for events := s.agent.Events(ctx); ; {
		if j, err := s.agent.Job(id); err == nil && j.State == want {
			return
		}
		require.NoError(s.t, ctx.Err(), want)
		for range events {
			break
		}
		events = s.agent.Events(ctx)
	}
}

// do sends a request and returns its answer's status, text and header.
func (s *site) do(method, path, body string, header map[string]string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	answer, err := s.client.Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, string(text), answer.Header
}

func (s *site) get(path string) string {
	s.t.Helper()
	status, text, _ := s.do(http.MethodGet, path, "", nil)
	require.Equal(s.t, http.StatusOK, status, "%s: %s", path, text)
	return text
}

// csrf returns the CSRF token of a page.
func csrf(t *testing.T, page string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, `data-csrf="`)
	require.True(t, ok)
	token, _, _ := strings.Cut(rest, `"`)
	require.NotEmpty(t, token)
	return token
}

var views = []string{"/", "/gpus", "/jobs", "/models", "/machine", "/settings"}

// everything is a page with all that a program can add to it.
func everything() webpage.Config {
	return webpage.Config{
		Models: func(context.Context) ([]storage.Copy, error) {
			return []storage.Copy{
				{Model: "meta-llama/Llama-3.1-70B-Instruct", Bytes: 141e9, OnDisk: 141e9, Files: 42, LastUsed: time.Now().Add(-3 * time.Hour), Holders: []string{"a"}},
				{Model: "Qwen/Qwen2.5-72B-Instruct-AWQ", Bytes: 41e9, OnDisk: 41e9, Files: 18, LastUsed: time.Now().Add(-50 * time.Hour)},
				{Model: "mistralai/Mixtral-8x7B-Instruct-v0.1", Bytes: 52e9, OnDisk: 52e9, Partial: true},
			}, nil
		},
		Preflight: func(context.Context) ([]preflight.Result, error) {
			return []preflight.Result{
				{Name: "nvidia driver", Required: true, Status: preflight.OK, Details: "Driver 550.54.15 drives 8 GPUs."},
				{Name: "disk space", Required: true, Status: preflight.Warn, Details: "41.2 GiB are free in /data/models; models often need more.", Fix: "df -h /data/models"},
				{Name: "server", Required: true, Status: preflight.Fail, Details: "https://kitt:8080 does not answer.", Fix: "curl -v https://kitt:8080/api/v1/health"},
			}, nil
		},
		Settings: func() []webpage.Setting {
			return []webpage.Setting{
				{Name: "name", Value: "gpu-01", Source: "/etc/kitt/agent.yaml:1", Meaning: "the agent's identity at the server"},
				{Name: "token", Value: "[redacted]", Source: "KITT_TOKEN", Meaning: "the agent's own token"},
				{Name: "port", Value: "8090", Source: "default", Meaning: "port of the agent's HTTP API"},
			}
		},
	}
}

func machine(t *testing.T) *hwdetect.Machine {
	t.Helper()
	m, ok := hwdetect.Profile("h100-8")
	require.True(t, ok)
	return m
}

// Every view is whole without a script, has the headers that keep it to itself, and is
// small.
func TestViewsAreWholeAndSmall(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{Detector: &hwdetect.Static{Machine: machine(t)}}, everything(), "")
	id := s.submit("/models/<b>&quot;Llama-3.1-70B")
	s.awaitState(id, agent.StateRunning)
	s.submit("next/Qwen2.5-72B")
	for _, path := range append(views, "/jobs/"+id) {
		status, text, head := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, head.Get("Content-Security-Policy"), "default-src 'self'")
		require.NotContains(t, head.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "no-store", head.Get("Cache-Control"))
		require.NotContains(t, text, "<b>&quot;", path)
		require.NotContains(t, text, "style=", path)
		require.NotContains(t, text, "<script>", path)
		size := len(text)
		for _, file := range []string{"site.css", "page.css", "page.js", "live.js", "log.js", "charts.js", "icon.svg"} {
			size += len(s.get("/static/" + file))
		}
		require.Less(t, size, 100<<10, path)
	}
	require.Contains(t, s.get("/"), "&lt;b&gt;")
	require.Contains(t, s.get("/"), "Qwen2.5-72B")
	require.Eventually(t, func() bool { // the disk may take longer than a page waits for it
		return strings.Contains(s.get("/models"), "Qwen2.5-72B-Instruct-AWQ")
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, s.get("/settings"), "/etc/kitt/agent.yaml:1")
	require.Contains(t, s.get("/machine"), "NVIDIA H100")
	for _, path := range []string{"/jobs/none/chart.svg", "/jobs/" + id + "/chart.svg"} {
		status, _, _ := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, http.StatusNotFound, status)
	}
	for _, path := range []string{"/nothing", "/jobs/none"} {
		status, text, _ := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, http.StatusNotFound, status)
		require.Contains(t, text, "Nothing here")
	}
}

// Without a token the agent's own machine is let in, and no page of another origin.
func TestWithoutATokenOnlyItsOwnOriginGetsAnything(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{}, everything(), "")
	id := s.submit("m")
	s.awaitState(id, agent.StateRunning)
	host := strings.TrimPrefix(s.url, "http://")
	token := csrf(t, s.get("/"))
	foreign := []map[string]string{
		{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
		{"Host": "evil.example"}, {"Host": "evil.example:8090", "Origin": "http://evil.example:8090"},
	}
	for _, header := range foreign {
		for _, path := range append(views, "/jobs/"+id, "/jobs/"+id+"/log", "/jobs/"+id+"/chart.svg", "/events", "/gpus.json", "/login", "/static/page.js") {
			status, _, _ := s.do(http.MethodGet, path, "", header)
			require.Equal(t, http.StatusForbidden, status, "%s %v", path, header)
		}
		header["X-CSRF-Token"] = token
		status, _, _ := s.do(http.MethodPost, "/jobs/"+id+"/cancel", "", header)
		require.Equal(t, http.StatusForbidden, status)
	}
	for _, wrong := range []string{"", "x", token + "x"} {
		status, text, _ := s.do(http.MethodPost, "/jobs/"+id+"/cancel", "", map[string]string{"X-CSRF-Token": wrong})
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, text, "reload")
	}
	j, err := s.agent.Job(id)
	require.NoError(t, err)
	require.Equal(t, agent.StateRunning, j.State)
	status, text, _ := s.do(http.MethodPost, "/jobs/"+id+"/cancel", "", map[string]string{"X-CSRF-Token": token, "Origin": "http://" + host, "Sec-Fetch-Site": "same-origin"})
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"stopped":true`)

	status, _, head := s.do(http.MethodPost, "/login", `{"token":""}`, nil)
	require.Equal(t, http.StatusNotFound, status)
	require.Empty(t, head.Get("Set-Cookie"))

	// From another machine there is nothing to see.
	away := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	away.Host, away.RemoteAddr = host, "192.0.2.7:1234"
	w := httptest.NewRecorder()
	s.agent.Handler().ServeHTTP(w, away)
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Contains(t, w.Body.String(), "no token")
	require.NotContains(t, w.Body.String(), id)
}

// With a token nobody sees anything without a login, whose cookie no script reads.
func TestLogin(t *testing.T) {
	t.Parallel()
	token := agent.Secret("right-token")
	var mu sync.Mutex
	cfg := agent.Config{Token: token, Dir: t.TempDir(), ReadToken: func() agent.Secret {
		mu.Lock()
		defer mu.Unlock()
		return token
	}}
	s := serve(t, cfg, everything(), "")
	id := s.submit("secret-model")
	s.awaitState(id, agent.StateRunning)
	follow := s.client.CheckRedirect
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range append(views, "/jobs/"+id, "/compare?job=a&job=b", "/nothing") {
		status, text, head := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, http.StatusSeeOther, status, path)
		require.NotContains(t, text, "secret-model")
		require.Contains(t, head.Get("Location"), "/login?next=%2F")
	}
	s.client.CheckRedirect = follow
	for _, path := range []string{"/events", "/gpus.json", "/jobs/" + id + "/log", "/jobs/" + id + "/chart.svg"} {
		status, text, _ := s.do(http.MethodGet, path, "", nil)
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Contains(t, text, "log in")
	}
	status, _, _ := s.do(http.MethodPost, "/jobs/"+id+"/cancel", "", nil)
	require.Equal(t, http.StatusUnauthorized, status)
	for _, body := range []string{`{"token":"wrong"}`, `{"token":""}`, `{}`} {
		status, _, head := s.do(http.MethodPost, "/login", body, nil)
		require.Equal(t, http.StatusUnauthorized, status)
		require.Empty(t, head.Get("Set-Cookie"))
	}
	for _, body := range []string{"", "x", `{"token":"` + strings.Repeat("x", 1<<20) + `"}`} {
		status, _, _ := s.do(http.MethodPost, "/login", body, nil)
		require.Equal(t, http.StatusBadRequest, status)
	}
	for _, next := range []string{"//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"} {
		require.Contains(t, s.get("/login?next="+next), `data-next="/"`)
	}
	require.Contains(t, s.get("/login?next=/jobs"), `data-next="/jobs"`)

	status, _, head := s.do(http.MethodPost, "/login", `{"token":" right-token "}`, nil)
	require.Equal(t, http.StatusNoContent, status)
	cookie := head.Get("Set-Cookie")
	require.Contains(t, cookie, "HttpOnly")
	require.Contains(t, cookie, "SameSite=Strict")
	require.NotContains(t, cookie, "right-token")
	require.Contains(t, s.get("/"), "secret-model")

	// The session outlives the agent, and not its token.
	address := strings.TrimPrefix(s.url, "http://")
	s.stop()
	again := serve(t, cfg, everything(), address)
	again.client = s.client
	page := again.get("/jobs/" + id)
	require.Contains(t, page, "secret-model")
	mu.Lock()
	token = "new-token"
	mu.Unlock()
	other := *again
	other.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status, _, _ = other.do(http.MethodPost, "/login", `{"token":"new-token"}`, nil)
	require.Equal(t, http.StatusNoContent, status, "the agent reads its token again")
	status, _, _ = other.do(http.MethodPost, "/login", `{"token":"right-token"}`, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, again.get("/"), "Log in")
	status, _, _ = again.do(http.MethodPost, "/jobs/"+id+"/cancel", "", map[string]string{"X-CSRF-Token": csrf(t, page)})
	require.Equal(t, http.StatusUnauthorized, status)
	status, _, _ = again.do(http.MethodPost, "/login", `{"token":"new-token"}`, nil)
	require.Equal(t, http.StatusNoContent, status)
	page = again.get("/")
	status, _, _ = again.do(http.MethodPost, "/logout", "", nil)
	require.Equal(t, http.StatusForbidden, status)
	status, _, _ = again.do(http.MethodPost, "/logout", "", map[string]string{"X-CSRF-Token": csrf(t, page)})
	require.Equal(t, http.StatusNoContent, status)
	require.Contains(t, again.get("/"), "Log in")
}

// A cookie that was changed, or has ended, is none.
func FuzzCookie(f *testing.F) {
	f.Add("9999999999.abc.def")
	f.Add("..")
	f.Fuzz(func(t *testing.T, value string) {
		a, err := agent.New(agent.Config{Name: "x", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &runnertest.Fake{}, Token: "t"})
		require.NoError(t, err)
		p := webpage.New(webpage.Config{Agent: a})
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/gpus.json", nil)
		r.Host = "127.0.0.1"
		r.Header["Cookie"] = []string{"kitt-agent-0=" + value, value}
		p.ServeHTTP(w, r)
		require.Equal(t, http.StatusUnauthorized, w.Code)
	})
}

// A program mounts the page where it likes, and the page refuses there what the API does.
func TestBelowAPrefix(t *testing.T) {
	t.Parallel()
	a, err := agent.New(agent.Config{Name: "x", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &runnertest.Fake{}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/gpu-1/", webpage.New(webpage.Config{Agent: a, Prefix: "/gpu-1/"}))
	server := httptest.NewServer(mux)
	defer server.Close()
	s := &site{t: t, url: server.URL, client: server.Client()}
	for _, path := range append(views, "/login", "/static/page.js") {
		text := s.get("/gpu-1" + path)
		require.NotRegexp(t, `(href|src|action)="/[^g]`, text)
	}
	status, _, _ := s.do(http.MethodGet, "/gpu-1/", "", map[string]string{"Sec-Fetch-Site": "cross-site"})
	require.Equal(t, http.StatusForbidden, status)
	status, _, _ = s.do(http.MethodGet, "/", "", nil)
	require.Equal(t, http.StatusNotFound, status)
}

// Two runs stand side by side, with what is better and on what they were measured.
func TestCompare(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{Runner: runnerFunc(func(_ context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
		figures := `{"avg_tps": 100, "p50_latency_ms": 10}`
		if job.Model == "b" {
			figures = `{"avg_tps": 110, "p50_latency_ms": 11}`
		}
		text := `{"model": "m", "engine": "vllm", "timestamp": "2026-11-23T16:17:04", "passed": true, "results": [{"test_name": "throughput", "passed": true, "metrics": ` + figures + `}]}`
		return runner.Result{Runner: "play"}, os.WriteFile(filepath.Join(job.ResultsDir, runner.MetricsFile), []byte(text), 0o600)
	})}, everything(), "")
	a, b := s.submit("a"), s.submit("b")
	s.awaitState(a, agent.StateCompleted)
	s.awaitState(b, agent.StateCompleted)
	text := s.get("/compare?job=" + a + "&job=" + b)
	require.Regexp(t, `avg_tps</th><td class="number">100</td><td class="number">110</td><td class="number">1.100 <span class="trend better">better`, text)
	require.Regexp(t, `p50_latency_ms</th>.*1.100 <span class="trend worse">worse`, text)
	for _, query := range []string{"", "?job=" + a, "?job=" + a + "&job=none", "?job=" + a + "&job=" + b + "&job=" + b} {
		status, text, _ := s.do(http.MethodGet, "/compare"+query, "", nil)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, text, "Choose two jobs")
	}
}

// A thousand kept jobs are a history of pages.
func TestAThousandJobs(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{Runner: runnerFunc(func(_ context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
		if strings.HasSuffix(job.Model, "7") {
			return runner.Result{}, &runner.Error{Class: "oom", Text: "CUDA out of memory", Fix: "take a smaller model", Err: io.ErrUnexpectedEOF}
		}
		return runner.Result{}, nil
	}), MaxConcurrentJobs: 64}, everything(), "")
	const n = 1000
	var last string
	for i := range n {
		last = s.submit(fmt.Sprintf("models/m-%03d", i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, j := range s.agent.Jobs() {
		_, err := s.agent.Wait(ctx, j.CommandID)
		require.NoError(t, err)
	}
	text := s.get("/jobs")
	require.Contains(t, text, "Page 1 of 20")
	require.Equal(t, 50, strings.Count(text, `name="job"`))
	require.Less(t, len(text), 60<<10)
	require.Contains(t, s.get("/jobs?page=20"), "Page 20 of 20")
	require.Contains(t, s.get("/jobs?page=999999999999999999999"), "Page 1 of 20")
	require.Contains(t, s.get("/jobs?q=FAILED"), "100 jobs")
	require.Contains(t, s.get("/jobs?q=%3Cscript%3E"), "No job matches “&lt;script&gt;”")
	require.Contains(t, s.get("/jobs?q="+last), "1 job<")
	failed := s.get("/jobs?q=m-007")
	_, id, _ := strings.Cut(failed, `name="job" value="`)
	id, _, _ = strings.Cut(id, `"`)
	require.Contains(t, s.get("/jobs/"+id), "take a smaller model")
}

// runnerFunc is a runner that is a function.
type runnerFunc func(context.Context, runner.Job, runner.Output) (runner.Result, error)

func (f runnerFunc) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	return f(ctx, job, out)
}

// The stream says that there is news, and brings the readings of the GPUs to who asks.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{Detector: &hwdetect.Static{Machine: machine(t)}}, everything(), "")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/events?gpus=1", nil)
	require.NoError(t, err)
	answer, err := s.client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, "text/event-stream; charset=utf-8", answer.Header.Get("Content-Type"))
	id := s.submit("m")
	var got bytes.Buffer
	part := make([]byte, 4096)
	for !strings.Contains(got.String(), "event: change") || !strings.Contains(got.String(), "event: gpus") {
		n, err := answer.Body.Read(part)
		got.Write(part[:n])
		require.NoError(t, err)
	}
	_, data, _ := strings.Cut(got.String(), "event: gpus\ndata: ")
	data, _, _ = strings.Cut(data, "\n")
	var reading []any
	require.NoError(t, json.Unmarshal([]byte(data), &reading), data)
	require.Len(t, reading, 9)
	require.Equal(t, []any{7.0, 0.0, 0.4, 32.0, 84.0, nil, 0.0}, reading[8])

	s.awaitState(id, agent.StateRunning)
	var charts struct {
		GPUs     []map[string]any
		Jobs     []map[string]any
		Readings [][]any
	}
	require.NoError(t, json.Unmarshal([]byte(s.get("/gpus.json")), &charts))
	require.Len(t, charts.GPUs, 8)
	require.Equal(t, id, charts.Jobs[0]["id"])
	require.NotEmpty(t, charts.Readings)
}

// Fifty viewers hear of one change, and a storm of reloads leaves nothing behind.
func TestFiftyViewers(t *testing.T) {
	t.Parallel()
	s := serve(t, agent.Config{Detector: &hwdetect.Static{Machine: machine(t)}}, everything(), "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var streams, heard sync.WaitGroup
	for range 50 {
		heard.Add(1)
		streams.Go(func() {
			told := sync.OnceFunc(heard.Done)
			defer told()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events?gpus=1", nil)
			if !assert.NoError(t, err) {
				return
			}
			answer, err := s.client.Do(r)
			if !assert.NoError(t, err) {
				return
			}
			defer answer.Body.Close()
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if lines.Text() == "event: change" {
					told()
				}
			}
		})
	}
	s.submit("m")
	heard.Wait()
	for range 200 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events", nil)
		require.NoError(t, err)
		answer, err := s.client.Do(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.NoError(t, answer.Body.Close())
	}
	s.stop() // while they look: the agent ends their streams
	streams.Wait()
	require.NoError(t, ctx.Err())
}
