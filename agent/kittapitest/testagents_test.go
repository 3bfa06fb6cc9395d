package kittapitest_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func TestATestAgentIsMadeAsTheServerMakesIt(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{AuthToken: "operator"})
	id, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	row := must(t, "GET", s.URL+"/api/v1/agents/"+id, "")
	for name, want := range map[string]any{
		"name": "virtual", "hostname": "test-virtual", "port": 0.0, "status": "online", "tags": `["test"]`,
		"token_prefix": "", "gpu_info": "NVIDIA RTX 4090 24GB", "gpu_count": 1.0, "cpu_info": "Intel Core i9-13900K",
		"cpu_arch": "x86_64", "ram_gb": 64.0, "environment_type": "native_linux",
	} {
		require.Equal(t, want, row[name], name)
	}
	require.NotEmpty(t, row["last_heartbeat"])
	a, ok := s.Agent("virtual")
	require.True(t, ok)
	require.True(t, a.Test)

	spark := simulated.Hardware{GPU: simulated.GPU{Model: "NVIDIA GB10"}, GPUs: 1, CPU: "Cortex-X925", RAMBytes: 119 << 30, Environment: "dgx_spark"}
	_, err = s.AddTestAgent(kittapitest.TestAgent{Name: "spark", Hardware: spark, Arch: "aarch64"})
	require.NoError(t, err)
	a, _ = s.Agent("spark")
	require.Equal(t, "NVIDIA GB10 119GB", a.Fields["gpu_info"])
	require.Equal(t, "aarch64", a.Fields["cpu_arch"])

	for _, tt := range []struct {
		agent kittapitest.TestAgent
		want  string
	}{
		{kittapitest.TestAgent{}, "needs a name"},
		{kittapitest.TestAgent{Name: "a/b"}, "slash"},
		{kittapitest.TestAgent{Name: "virtual"}, "exists already"},
		{kittapitest.TestAgent{Name: "x", Hardware: simulated.Hardware{GPUs: 1}}, "bad Hardware.GPU.Model"},
		{kittapitest.TestAgent{Name: "x", Scenario: simulated.Scenario{FailAt: "nowhere"}}, "nowhere"},
	} {
		_, err := s.AddTestAgent(tt.agent)
		require.ErrorContains(t, err, tt.want)
	}
	require.Len(t, s.Agents(), 2)
}

func TestTheFormMakesATestAgent(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	post := func(form string) (status int, location, text string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/agents/create-test", strings.NewReader(form))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Transport.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Header.Get("Location"), string(body)
	}
	status, location, _ := post(url.Values{
		"name": {" h100 "}, "gpu_info": {"NVIDIA H100 80GB HBM3 80GB"}, "gpu_count": {"2"}, "cpu_info": {"Xeon"},
		"cpu_arch": {"x86_64"}, "ram_gb": {"512"}, "environment_type": {"docker"},
	}.Encode())
	require.Equal(t, http.StatusFound, status)
	a, ok := s.Agent(strings.TrimPrefix(location, "/agents/"))
	require.True(t, ok)
	require.Equal(t, "h100", a.Name)
	require.Equal(t, "NVIDIA H100 80GB HBM3 80GB", a.Fields["gpu_info"], "as it was typed")

	// What the form says is what its tests run on.
	test, _, err := s.Launch("h100", "/models/Llama-3.1-70B")
	require.NoError(t, err)
	require.NoError(t, s.WaitForStatus(t.Context(), test, "completed"), "70B needs both GPUs")
	gpu := s.Results()[0]["system_info"].(map[string]any)["gpu"].(map[string]any)
	require.Equal(t, "NVIDIA H100 80GB HBM3", gpu["model"])
	require.EqualValues(t, 80, gpu["vram_gb"])
	require.EqualValues(t, 2, gpu["count"])

	status, _, _ = post("name=plain")
	require.Equal(t, http.StatusFound, status, "all but the name has a value")
	for _, tt := range []struct{ form, want string }{
		{"", "needs a name"},
		{"name=+", "needs a name"},
		{"name=h100", "exists already"},
		{"name=x&gpu_count=two", "must be numbers"},
		{"name=x&ram_gb=-1", "must be numbers"},
		{"name=x&gpu_count=65", "bad Hardware.GPUs"},
		{"name=%zz", "cannot be read"},
	} {
		status, _, text := post(tt.form)
		require.Equal(t, http.StatusBadRequest, status, tt.form)
		require.Contains(t, text, tt.want)
	}
	require.Len(t, s.Agents(), 2)
}

// A test of a test agent takes the path that a real agent's takes: the same
// calls show its status, log and result, and the same events tell of them.
func TestATestAgentsTestGoesThroughTheSamePath(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{Keepalive: 20 * time.Millisecond})
	id, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	resp, err := client.Get(s.URL + "/api/v1/events/stream")
	require.NoError(t, err)
	defer resp.Body.Close()

	launched := must(t, "POST", s.URL+"/api/v1/quicktest/", `{"agent_id":"`+id+`","model_path":"/models/Llama-3.1-8B","engine_name":"vllm"}`)
	test := launched["id"].(string)
	require.NoError(t, s.WaitForStatus(t.Context(), test, "completed"))
	ended, _ := s.Test(test)
	require.Equal(t, []string{"queued", "running", "completed"}, ended.History, "it is never dispatched")
	require.Empty(t, s.Breaches())

	var statuses, lines []string
	events := bufio.NewScanner(resp.Body)
	for (len(statuses) == 0 || statuses[len(statuses)-1] != "completed") && events.Scan() {
		data, ok := strings.CutPrefix(events.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			Status string
			Line   *string
			TestID string `json:"test_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		require.Equal(t, test, e.TestID)
		if e.Line != nil {
			lines = append(lines, *e.Line)
		} else {
			statuses = append(statuses, e.Status)
		}
	}
	require.Equal(t, []string{"queued", "running", "completed"}, statuses)
	require.Equal(t, s.Lines(test), lines)
	require.Greater(t, len(lines), 10)
	require.Equal(t, "Result saved for Llama-3.1-8B on vllm", lines[len(lines)-1])

	stored := must(t, "GET", s.URL+"/api/v1/results/?model=Llama-3.1-8B", "")
	require.EqualValues(t, 1, stored["total"])
	result := stored["items"].([]any)[0].(map[string]any)
	require.Equal(t, "test-agent-"+id, result["system_info"].(map[string]any)["fingerprint"])
	require.NotEmpty(t, result["results"].([]any)[0].(map[string]any)["metrics"].(map[string]any)["avg_tps"])
	report := s.Reports()[0]
	require.Equal(t, launched["command_id"], report.CommandID)
	require.Equal(t, "completed", report.Status)
}

func TestATestAgentsTestFailsByItsScenario(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{TestAgents: simulated.Config{Scenario: simulated.Scenario{PassedFalse: true}}})
	fails := func(name, scenario, model string) (kittapitest.Test, string) {
		sc, err := simulated.ParseScenario(scenario)
		require.NoError(t, err)
		_, err = s.AddTestAgent(kittapitest.TestAgent{Name: name, Scenario: sc})
		require.NoError(t, err)
		id, _, err := s.Launch(name, model)
		require.NoError(t, err)
		require.NoError(t, s.WaitForEnd(t.Context(), id))
		test, _ := s.Test(id)
		return test, strings.Join(s.Lines(id), "\n")
	}
	test, log := fails("a", "fail-at=model,exit=3", "8B")
	require.Equal(t, "failed", test.Status)
	require.Contains(t, test.Error, "Exit 3")
	require.NotContains(t, log, "Result saved")
	test, log = fails("b", "", "Llama-3.1-70B")
	require.Contains(t, test.Error, "CUDA out of memory")
	require.Contains(t, log, "CUDA out of memory")
	require.Empty(t, s.Results())
	require.Len(t, s.Reports(), 2)

	test, _ = fails("c", "", "8B")
	require.Equal(t, "completed", test.Status)
	require.Equal(t, false, s.Results()[0]["passed"], "the server's own scenario")
	test, _ = fails("d", "no-metrics", "8B")
	require.Equal(t, "completed", test.Status)
	test, _ = fails("e", "broken-metrics", "8B")
	require.Equal(t, "completed", test.Status)
	require.Len(t, s.Results(), 1)
	_, log = fails("f", "progress,invalid-utf8", "8B")
	require.NotContains(t, log, "\r")
	require.Contains(t, log, "\nthroughput: 100%|")
	require.Contains(t, log, "\uFFFD")
}

func TestARunThatHangsEndsWithItsTest(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{TestAgents: simulated.Config{Scenario: simulated.Scenario{Hang: "start"}}})
	_, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	for range 3 {
		test, _, err := s.Launch("virtual", "8B")
		require.NoError(t, err)
		require.NoError(t, s.WaitForStatus(t.Context(), test, "running"))
	}
	cancelled := s.Tests()[0].ID
	s.SetStatus(cancelled, "failed", "Cancelled by somebody")
	lines := s.Lines(cancelled)
	s.Forget()
	require.NoError(t, s.Close(), "it waits for what hangs")
	require.Empty(t, s.Reports())
	require.LessOrEqual(t, len(lines), 5)
}

// With the real delays a run takes as long as the real server's, which costs
// nothing on a clock of a test's own.
func TestRealDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := kittapitest.New(kittapitest.Config{TestAgents: simulated.Config{Speed: 1}})
		defer s.Close()
		_, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
		require.NoError(t, err)
		began := time.Now()
		test, _, err := s.Launch("virtual", "8B")
		require.NoError(t, err)
		require.NoError(t, s.WaitForStatus(t.Context(), test, "running"))
		require.Equal(t, 1500*time.Millisecond, time.Since(began))
		seen := began
		for n := 0; n == 0 || !strings.HasPrefix(s.Lines(test)[n-1], "Result saved"); {
			require.NoError(t, s.Wait(t.Context(), func() bool { return len(s.Lines(test)) > n }))
			gap := time.Since(seen)
			if gap > 0 && n > 0 {
				require.GreaterOrEqual(t, gap, 500*time.Millisecond)
				require.LessOrEqual(t, gap, 1500*time.Millisecond)
			}
			seen = time.Now()
			synctest.Wait() // what comes together is one step
			n = len(s.Lines(test))
		}
		require.NoError(t, s.WaitForEnd(t.Context(), test))
		require.Greater(t, time.Since(began), 8*time.Second)
	})
}

func TestSameSeedSameRunOfATestAgent(t *testing.T) {
	t.Parallel()
	play := func(seed uint64) (lines []string, results string) {
		s := start(t, kittapitest.Config{
			Now:        func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) },
			TestAgents: simulated.Config{Seed: seed},
		})
		_, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
		require.NoError(t, err)
		test, _, err := s.Launch("virtual", "8B", func(t *kittapitest.Test) { t.CommandID = "0123456789abcdef" })
		require.NoError(t, err)
		require.NoError(t, s.WaitForEnd(t.Context(), test))
		data := s.Reports()[0].Data
		delete(data["system_info"].(map[string]any), "fingerprint") // it holds the agent's id
		text, err := json.Marshal(data)
		require.NoError(t, err)
		return s.Lines(test), string(text)
	}
	lines, results := play(7)
	again, same := play(7)
	require.Equal(t, lines, again)
	require.Equal(t, results, same)
	_, other := play(8)
	require.NotEqual(t, results, other)
}

func TestACampaignOnATestAgent(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{CampaignPoll: time.Hour})
	id, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	p := must(t, "POST", s.URL+"/api/v1/campaigns/",
		`{"name":"c","agent_id":"`+id+`","config":{"models":[{"name":"8B"},{"name":"70B"},{"name":"7B"}],"engines":[{"name":"vllm"},{"name":"ollama"}]}}`)["id"].(string)
	must(t, "POST", s.URL+"/api/v1/campaigns/"+p+"/launch", "")
	var row map[string]any
	require.NoError(t, s.Wait(t.Context(), func() bool {
		row = must(t, "GET", s.URL+"/api/v1/campaigns/"+p, "")
		return row["status"] == "completed"
	}))
	require.EqualValues(t, 4, row["succeeded"])
	require.EqualValues(t, 2, row["failed"], "70B does not fit")
	require.Len(t, s.Tests(), 6)
}

// The real server tells its event stream of a registration, and of no agent that
// falls silent: pages have to look.
func TestTheStreamTellsOfRegistrationsAlone(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	s := start(t, kittapitest.Config{Keepalive: 10 * time.Millisecond, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	resp, err := client.Get(s.URL + "/api/v1/events/stream")
	require.NoError(t, err)
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	next := func() string {
		for events.Scan() {
			if data, ok := strings.CutPrefix(events.Text(), "data: "); ok {
				return data
			}
		}
		return "the stream ended"
	}
	register(t, s, "gpu-01")
	require.Equal(t, `{"name": "gpu-01", "status": "online"}`, next())
	_, err = s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	later.Store(int64(time.Hour))
	gone, _ := s.Agent("gpu-01")
	require.Equal(t, "offline", gone.Status)
	virtual, _ := s.Agent("virtual")
	require.Equal(t, "online", virtual.Status, "a test agent never goes offline")
	register(t, s, "gpu-02")
	require.Equal(t, `{"name": "gpu-02", "status": "online"}`, next(), "nothing came in between")
}

func TestOrdersToATestAgentWaitForABeat(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	id, err := s.AddTestAgent(kittapitest.TestAgent{Name: "virtual"})
	require.NoError(t, err)
	must(t, "POST", s.URL+"/api/v1/agents/"+id+"/cleanup", `{"model_path":"m"}`)
	require.Equal(t, "queued", s.Tests()[0].Status)
}

func TestBadTestAgentsAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	_, err := kittapitest.NewServer(kittapitest.Config{TestAgents: simulated.Config{Speed: -1}})
	require.ErrorContains(t, err, "TestAgents: simulated: bad Speed -1")
}
