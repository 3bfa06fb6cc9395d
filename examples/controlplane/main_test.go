package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/web"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// serve runs the program until the test ends, and returns its URL.
func serve(t *testing.T, cfg kittapitest.Config) string {
	t.Helper()
	r, w := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, "127.0.0.1:0", cfg, w)
		w.Close()
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	line := make([]byte, 200)
	n, err := r.Read(line)
	require.NoError(t, err)
	_, address, found := strings.Cut(strings.TrimSpace(string(line[:n])), " at ")
	require.True(t, found, "%s", line[:n])
	return address
}

func TestRunStopsWithEverythingItStarted(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("serving", func(t *testing.T) {
		address := serve(t, kittapitest.Config{Keepalive: time.Millisecond, TestAgents: simulated.Config{Scenario: simulated.Scenario{Hang: "start"}}})
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(address + "/api/v1/events/stream")
		require.NoError(t, err)
		defer resp.Body.Close()
		resp, err = client.PostForm(address+"/agents/create-test", url.Values{"name": {"a"}})
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		resp, err = client.PostForm(address+resp.Request.URL.Path+"/tests", url.Values{"model": {"8B"}})
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	})
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), "127.0.0.1:0", kittapitest.Config{TestAgents: simulated.Config{Speed: -1}}, io.Discard)
	require.ErrorContains(t, err, "bad Speed")
	require.ErrorContains(t, run(t.Context(), "127.0.0.1:x", kittapitest.Config{}, io.Discard), "unknown port")
}

// pages returns the handler of a control plane whose tests go at once, and a
// client that follows redirects.
func pages(t *testing.T) (*kittapitest.Server, func(path string, form url.Values) (int, string)) {
	t.Helper()
	plane := kittapitest.New(kittapitest.Config{})
	site := httptest.NewServer(handler(plane))
	t.Cleanup(func() {
		require.NoError(t, plane.Close())
		site.Close()
	})
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar}
	return plane, func(path string, form url.Values) (int, string) {
		var resp *http.Response
		var err error
		if form == nil {
			resp, err = client.Get(site.URL + path)
		} else {
			resp, err = client.PostForm(site.URL+path, form)
		}
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
}

func TestPagesFromAnAgentToItsResult(t *testing.T) {
	t.Parallel()
	plane, get := pages(t)
	status, text := get("/", nil)
	require.Equal(t, 200, status)
	require.Contains(t, text, "No agent has registered yet")

	status, text = get("/agents/create-test", url.Values{"name": {"<b>h100</b>"}, "gpu_info": {"NVIDIA H100 80GB HBM3 80GB"}, "gpu_count": {"2"}, "ram_gb": {"512"}})
	require.Equal(t, http.StatusBadRequest, status, "a slash")
	require.Contains(t, text, `role="alert"`)
	require.Contains(t, text, "&lt;b&gt;h100&lt;/b&gt;")
	require.NotContains(t, text, "<b>")
	require.Contains(t, text, `value="512"`, "what was typed stays")

	status, text = get("/agents/create-test", url.Values{"name": {"<b>h100"}, "gpu_info": {"NVIDIA H100 80GB HBM3 80GB"}, "gpu_count": {"2"}, "ram_gb": {"512"}})
	require.Equal(t, 200, status)
	require.Contains(t, text, "2 × NVIDIA H100 80GB HBM3 80GB")
	require.Contains(t, text, ">TEST<")
	require.Contains(t, text, "&lt;b&gt;h100")
	agent := plane.Agents()[0].ID

	status, text = get("/agents/"+agent+"/tests", url.Values{"model": {" "}})
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, text, "A model is needed")

	status, _ = get("/agents/"+agent+"/tests", url.Values{"model": {"/models/Llama-3.1-8B"}, "engine": {"vllm"}, "suite": {"standard"}})
	require.Equal(t, 200, status)
	test := plane.Tests()[0].ID
	require.NoError(t, plane.WaitForStatus(t.Context(), test, "completed"))
	_, text = get("/tests/"+test, nil)
	require.Contains(t, text, "Result saved for Llama-3.1-8B on vllm")
	require.Contains(t, text, "<dt>ttft_ms p50</dt>")
	require.Contains(t, text, "<dt>accuracy</dt>")
	_, text = get("/tests", nil)
	require.Contains(t, text, test)
	_, text = get("/results", nil)
	require.Contains(t, text, "2 × NVIDIA H100 80GB HBM3")
	_, text = get("/results/"+plane.Results()[0]["id"].(string), nil)
	require.Contains(t, text, "<dt>overall_peak_gpu_memory_gb</dt>")

	for _, path := range []string{"/agents/x", "/tests/x", "/results/x"} {
		status, text = get(path, nil)
		require.Equal(t, 404, status)
		require.Contains(t, text, "There is no such")
	}
	status, _ = get("/agents/x/tests", url.Values{"model": {"m"}})
	require.Equal(t, 404, status)
	status, text = get("/api/v1/health", nil)
	require.Equal(t, 200, status)
	require.Contains(t, text, "ok")
}

func TestAResultOfAnyShapeIsShown(t *testing.T) {
	t.Parallel()
	for _, data := range []map[string]any{
		{},
		{"results": []any{nil, "x", map[string]any{"metrics": "none", "errors": []any{1.5}}}, "system_info": "x"},
		{"system_info": map[string]any{"gpu": nil, "cpu": nil}, "timestamp": 7},
	} {
		var page strings.Builder
		o := web.NewOutcome(data)
		require.NoError(t, parsePages()["result"].ExecuteTemplate(&page, "frame", o))
		require.Equal(t, "–", o.Figure("avg_tps"))
	}
}

func TestAFailedTestSaysWhy(t *testing.T) {
	t.Parallel()
	plane, get := pages(t)
	_, err := plane.AddTestAgent(kittapitest.TestAgent{Name: "a"})
	require.NoError(t, err)
	id, _, err := plane.Launch("a", "Llama-3.1-70B")
	require.NoError(t, err)
	require.NoError(t, plane.WaitForStatus(t.Context(), id, "failed"))
	_, text := get("/tests/"+id, nil)
	require.Contains(t, text, "CUDA out of memory")
	require.Contains(t, text, "There is none.")
}

// A page of somebody else's that is open in the same browser presses no button.
func TestAnotherSiteIsRefused(t *testing.T) {
	t.Parallel()
	plane := kittapitest.New(kittapitest.Config{})
	defer plane.Close()
	for _, site := range []string{"cross-site", "same-origin"} {
		r := httptest.NewRequest("POST", "/agents/create-test", strings.NewReader("name=a"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		handler(plane).ServeHTTP(w, r)
		require.Equal(t, map[string]int{"cross-site": 403, "same-origin": 303}[site], w.Code)
	}
	require.Len(t, plane.Agents(), 1)
}

// Nothing on the pages comes from elsewhere, and nothing is built.
func TestPagesNeedNoNetwork(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"pages", "static"} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			text, err := os.ReadFile(dir + "/" + e.Name())
			require.NoError(t, err)
			require.NotContains(t, strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", ""), "://", e.Name())
		}
	}
}
