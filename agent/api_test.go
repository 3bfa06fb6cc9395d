package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

const apiToken = "secret-token-of-the-agent"

// serveAgent runs an agent with its API on loopback and returns the API's
// address.
func serveAgent(t *testing.T, cfg agent.Config) (a *agent.Agent, url string) {
	t.Helper()
	if cfg.Listener == nil {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		cfg.Listener = listener
	}
	cfg.Token = apiToken
	if cfg.Server == nil {
		cfg.Server = &agenttest.Server{}
	}
	if cfg.Runner == nil {
		cfg.Runner = &play{run: hangs}
	}
	a, stop := start(t, cfg)
	t.Cleanup(stop)
	url = "http://" + cfg.Listener.Addr().String()
	require.Eventually(t, func() bool {
		status, _ := call(t, "GET", url+"/healthz", "", "")
		return status == http.StatusOK
	}, 10*time.Second, 5*time.Millisecond)
	return a, url
}

// call makes a request and returns the status and the body.
func call(t *testing.T, method, url, token, body string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, text
}

// TestAPIAnswersAsThePythonAgentDoes replays what was recorded of the Python
// agent's API. Where ours answers otherwise, deviations says why.
func TestAPIAnswersAsThePythonAgentDoes(t *testing.T) {
	deviations := map[string]struct {
		status int
		why    string
	}{
		"09-command-cancel":              {400, "cancel is known here, but wants an id"},
		"12-run-test-payload-not-object": {400, "the Python agent fails with a page"},
	}
	_, url := serveAgent(t, agent.Config{})
	files, err := filepath.Glob("testdata/wire/*.json")
	require.NoError(t, err)
	require.Len(t, files, 26)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			var exchange struct {
				Request struct {
					Method, Path string
					Headers      map[string]string
					Body         json.RawMessage
					RawBody      *string `json:"raw_body"`
				}
				Response struct {
					Status int
					Body   any
				}
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(text, &exchange))
			body := string(exchange.Request.Body)
			if exchange.Request.RawBody != nil {
				body = *exchange.Request.RawBody
			}
			token := strings.TrimPrefix(exchange.Request.Headers["Authorization"], "Bearer ")
			if token == "<AGENT_TOKEN>" {
				token = apiToken
			}
			status, answer := call(t, exchange.Request.Method, url+exchange.Request.Path, token, body)
			want := exchange.Response.Status
			deviates, ok := deviations[name]
			if ok {
				want = deviates.status
			}
			require.Equal(t, want, status, "%s", answer)
			var got any
			require.NoError(t, json.Unmarshal(answer, &got))
			if !ok {
				requireShape(t, exchange.Response.Body, got)
			}
			if !ok && want >= 400 {
				require.Equal(t, exchange.Response.Body, got)
			}
		})
	}
}

// requireShape checks that got has all the keys of want, with values of the
// same types. More keys are fine.
func requireShape(t *testing.T, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		require.IsType(t, want, got)
		keys := make([]string, 0, len(want))
		for k := range want {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			require.Contains(t, got, k)
			requireShape(t, want[k], got.(map[string]any)[k])
		}
	case []any:
		require.IsType(t, want, got)
		require.Equal(t, len(want) > 0, len(got.([]any)) > 0)
		if len(want) > 0 {
			requireShape(t, want[0], got.([]any)[0])
		}
	default:
		require.IsType(t, want, got)
	}
}

func TestAPIRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	_, url := serveAgent(t, agent.Config{})
	for name, tt := range map[string]struct {
		method, path, token, body string
		status                    int
		want                      string
	}{
		"no JSON":           {"POST", "/api/commands", apiToken, "}{", 400, "Invalid JSON body"},
		"null":              {"POST", "/api/commands", apiToken, "null", 400, "Invalid JSON body"},
		"a list":            {"POST", "/api/commands", apiToken, "[]", 400, "Invalid JSON body"},
		"model is a list":   {"POST", "/api/commands", apiToken, `{"type": "run_test", "payload": {"model_path": []}}`, 400, "Invalid payload: model_path must be a text, not an array"},
		"type is a number":  {"POST", "/api/commands", apiToken, `{"type": 5}`, 400, "Invalid type: it must be a text"},
		"id with a path":    {"POST", "/api/commands", apiToken, `{"type": "run_test", "command_id": "../x", "payload": {"model_path": "m"}}`, 400, "Invalid command_id"},
		"test with a path":  {"POST", "/api/commands", apiToken, `{"type": "run_test", "test_id": "a/b", "payload": {"model_path": "m"}}`, 400, "Invalid test_id"},
		"path with dots":    {"POST", "/api/commands", apiToken, `{"type": "run_test", "payload": {"model_path": "/a/../b"}}`, 400, "Invalid model_path"},
		"payload is a text": {"POST", "/api/commands", apiToken, `{"type": "run_test", "payload": "x"}`, 400, "Invalid payload"},
		"wrong token":       {"POST", "/api/commands", "wrong", `{"type": "run_test"}`, 401, "Unauthorized"},
		"no token":          {"GET", "/api/engines", "", "", 401, "Unauthorized"},
		"a container":       {"POST", "/api/commands", apiToken, `{"type": "run_container", "payload": {"image": "--privileged"}}`, 400, "Unsupported command type"},
		"stop how":          {"POST", "/api/stop", apiToken, `{"mode": "now"}`, 400, "drain or cancel"},
		"unknown page":      {"GET", "/api/nothing", apiToken, "", 404, ""},
		"wrong method":      {"DELETE", "/api/commands", apiToken, "", 405, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answer := call(t, tt.method, url+tt.path, tt.token, tt.body)
			require.Equal(t, tt.status, status, "%s", answer)
			require.Contains(t, string(answer), tt.want)
			require.NotContains(t, string(answer), apiToken)
		})
	}
}

func TestAPIRefusesAHugeBody(t *testing.T) {
	t.Parallel()
	_, url := serveAgent(t, agent.Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	head := "POST /api/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + apiToken +
		"\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n{\"type\":\""
	_, err = io.WriteString(conn, head)
	require.NoError(t, err)
	piece := bytes.Repeat([]byte("x"), 64<<10)
	sent := 0
	for sent < 100<<20 {
		n, err := conn.Write(piece)
		sent += n
		if err != nil {
			break // it doesn't listen any more
		}
	}
	require.Less(t, sent, 32<<20, "the rest is not taken")
}

func TestAPIWithoutATokenServesItsOwnMachineOnly(t *testing.T) {
	t.Parallel()
	a, err := agent.New(agent.Config{Name: "x", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs}})
	require.NoError(t, err)
	for remote, want := range map[string]int{
		"127.0.0.1:5": 200, "[::1]:5": 200, "10.1.2.3:5": 401, "[2001:db8::1]:5": 401, "": 401,
	} {
		req, err := http.NewRequest("GET", "/api/engines", nil)
		require.NoError(t, err)
		req.RemoteAddr = remote
		w := &recorder{header: http.Header{}}
		a.Handler().ServeHTTP(w, req)
		require.Equal(t, want, w.status, remote)
	}
}

func TestStrangersSeeTheProtocolsStatusOnly(t *testing.T) {
	t.Parallel()
	a, err := agent.New(agent.Config{Name: "x", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs}, Token: apiToken})
	require.NoError(t, err)
	for remote, token := range map[string]string{"127.0.0.1:5": "", "10.1.2.3:5": apiToken, "10.1.2.4:5": "", "10.1.2.5:5": "wrong"} {
		req, err := http.NewRequest("GET", "/api/status", nil)
		require.NoError(t, err)
		req.RemoteAddr = remote
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		w := &recorder{header: http.Header{}}
		a.Handler().ServeHTTP(w, req)
		require.Equal(t, 200, w.status)
		require.Contains(t, w.body, `"active_containers"`)
		known := strings.HasPrefix(remote, "127.") || token == apiToken
		require.Equal(t, known, strings.Contains(w.body, `"settings"`), remote)
	}
}

// recorder is a response writer that remembers the answer.
type recorder struct {
	header http.Header
	status int
	body   string
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
func (r *recorder) Write(p []byte) (int, error) {
	r.body += string(p)
	return len(p), nil
}

func TestAPICancels(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	_, url := serveAgent(t, agent.Config{Runner: &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		defer close(stopped)
		return hangs(ctx, job, out)
	}}})
	status, answer := call(t, "POST", url+"/api/commands", apiToken, `{"type":"run_test","command_id":"aa","test_id":"tt","payload":{"model_path":"m"}}`)
	require.Equal(t, 202, status, "%s", answer)
	require.Eventually(t, func() bool {
		_, answer := call(t, "GET", url+"/api/status", "", "")
		return strings.Contains(string(answer), `"state":"running"`) && strings.Contains(string(answer), `"running":true`)
	}, 10*time.Second, 5*time.Millisecond)
	status, answer = call(t, "POST", url+"/api/commands", apiToken, `{"type":"cancel","test_id":"tt"}`)
	require.Equal(t, 200, status, "%s", answer)
	require.JSONEq(t, `{"stopped":true,"command_id":"aa"}`, string(answer))
	<-stopped
	status, answer = call(t, "POST", url+"/api/commands", apiToken, `{"type":"cancel","command_id":"aa"}`)
	require.Equal(t, 200, status)
	require.Contains(t, string(answer), `"stopped":false`)
}
