package kittapi_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// TestLiveContract runs the calls of a job against the KITT server at
// KITT_TEST_SERVER and against the double. A server with its own token needs
// KITT_TEST_SERVER_TOKEN, one over https needs KITT_TEST_SERVER_CA, the file of its
// authority. The test leaves an agent and a test on the server.
func TestLiveContract(t *testing.T) {
	t.Parallel()
	t.Run("double", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, kittapitest.Config{AuthToken: "operator"})
		lifeOfAJob(t, kittapi.Config{URL: s.URL, Token: "own", ServerToken: "operator"})
		require.Empty(t, s.Breaches())
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		url := os.Getenv("KITT_TEST_SERVER")
		if url == "" {
			t.Skip("KITT_TEST_SERVER names no server")
		}
		lifeOfAJob(t, kittapi.Config{
			URL: url, Token: "own-token-of-the-test", ServerToken: agent.Secret(os.Getenv("KITT_TEST_SERVER_TOKEN")),
			CAFile: os.Getenv("KITT_TEST_SERVER_CA"),
		})
	})
}

func lifeOfAJob(t *testing.T, cfg kittapi.Config) {
	ctx := t.Context()
	c := newClient(t, cfg)
	require.NoError(t, c.Health(ctx))
	v, err := c.Version(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, v)

	// Each run uses another name, because the server keeps its database.
	name := fmt.Sprintf("gpu é %d", time.Now().UnixNano())
	reg, err := c.Register(ctx, agent.Registration{Name: name, Port: 8090, Version: "1.0.0", Capabilities: []string{"vllm"}, Machine: h100})
	require.NoError(t, err)
	again, err := c.Register(ctx, agent.Registration{Name: name})
	require.NoError(t, err)
	require.Equal(t, reg, again)
	require.Equal(t, 30*time.Second, reg.Interval)

	_, err = c.Heartbeat(ctx, "nobody-"+reg.AgentID, heartbeat.Beat{})
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)
	stranger := cfg
	stranger.Token = "stranger"
	_, err = newClient(t, stranger).Heartbeat(ctx, reg.AgentID, heartbeat.Beat{})
	require.ErrorContains(t, err, "is wrong or was replaced on the server")
	stranger.Token = ""
	_, err = newClient(t, stranger).Heartbeat(ctx, reg.AgentID, heartbeat.Beat{})
	require.ErrorIs(t, err, kittapi.ErrUnauthorized)

	test, err := c.Launch(ctx, kittapi.Launch{AgentID: reg.AgentID, Model: "/mnt/models/llama", Engine: "vllm", Suite: "quick", Force: true})
	require.NoError(t, err)
	answer, err := c.Heartbeat(ctx, name, heartbeat.Beat{
		Status: heartbeat.StatusIdle, GPUUtilPct: ptr(1.5), GPUMemoryBytes: ptr(int64(1 << 30)), StorageFree: ptr(int64(1 << 40)),
		Uptime: time.Minute, Engines: []heartbeat.Engine{{Engine: "vllm", Port: 8000}},
	})
	require.NoError(t, err)
	require.Equal(t, reg.AgentID, answer.AgentID)
	require.Len(t, answer.Settings, 6)
	require.Len(t, answer.Commands, 1)
	require.Equal(t, test, answer.Commands[0].TestID)

	lost, err := c.Dispatched(ctx, name)
	require.NoError(t, err)
	require.Len(t, lost, 1)
	require.Equal(t, answer.Commands[0].ID, lost[0].ID)
	require.Equal(t, answer.Commands[0].Type, lost[0].Type)
	require.JSONEq(t, string(answer.Commands[0].Payload), string(lost[0].Payload))

	require.NoError(t, c.ReportStatus(ctx, test, "running", ""))
	want := []string{"one", "two\nthree", "", "\x1b[32m✓\x1b[0m 漢字", strings.Repeat("x", 100_000)}
	for _, line := range want {
		require.NoError(t, c.ReportLog(ctx, test, line))
	}
	require.NoError(t, c.ReportLog(ctx, test, "bad \xff\xed\xa0\x80"))
	rows, err := c.LogRows(ctx, test)
	require.NoError(t, err)
	require.Equal(t, append(want, "bad \uFFFD\uFFFD\uFFFD\uFFFD"), rows)

	refusals(t, c)
	at := time.Now().Format("2006-01-02T15:04:05.000000")
	results(t, c, reg.AgentID, at)

	require.NoError(t, c.ReportStatus(ctx, test, "completed", ""))
	row, err := c.TestByID(ctx, test)
	require.NoError(t, err)
	require.Equal(t, "completed", row.Status)
	require.NotEmpty(t, row.StartedAt)
	require.NotEmpty(t, row.CompletedAt)
	page, err := c.Tests(ctx, kittapi.Filter{Agent: name})
	require.NoError(t, err)
	require.Equal(t, 1, page.Total)

	// The server still works after all requests.
	answer, err = c.Heartbeat(ctx, name, heartbeat.Beat{})
	require.NoError(t, err)
	require.Empty(t, answer.Commands)
}

// refusals makes requests that the server rejects.
func refusals(t *testing.T, c *kittapi.Client) {
	for _, err := range []error{
		c.ReportLog(t.Context(), "nope", "x"),
		c.ReportStatus(t.Context(), "nope", "running", ""),
		c.ReportResult(t.Context(), "nobody", reporter.Result{CommandID: "c", Status: "failed"}),
	} {
		var refused *reporter.RejectedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, 404, refused.Code)
	}
}

// results delivers results. Most of them would lock the server's database if they
// were not cleaned.
func results(t *testing.T, c *kittapi.Client, agentID, at string) {
	ctx := t.Context()
	good := map[string]any{
		"model": "llama " + at, "engine": "vllm", "suite_name": "quick", "timestamp": at, "passed": true, "total_benchmarks": 1,
		"results":     []any{map[string]any{"test_name": "throughput", "run_number": 1, "passed": true, "metrics": map[string]any{"avg_tps": 100.0}}},
		"system_info": map[string]any{"gpu": map[string]any{"model": "H100", "vram_gb": 80, "count": 8}},
	}
	require.NoError(t, c.ReportResult(ctx, agentID, reporter.Result{CommandID: "c", Status: "completed", Data: good}))
	has, err := c.HasResult(ctx, "llama "+at, "vllm", at)
	require.NoError(t, err)
	require.True(t, has)
	has, err = c.HasResult(ctx, "llama "+at, "vllm", "2000-01-01T00:00:00")
	require.NoError(t, err)
	require.False(t, has)
	for _, bad := range []map[string]any{
		{"results": nil}, {"results": []any{nil}}, {"results": []any{map[string]any{"metrics": nil}}}, {"model": nil}, {"model": map[string]any{}},
		{"engine": []any{}}, {"total_benchmarks": 1e19}, {"system_info": "x"}, {"system_info": map[string]any{"gpu": map[string]any{"model": []any{}}}},
		{"suite_name": "\xed\xa0\x80"},
	} {
		bad["timestamp"] = at
		require.NoError(t, c.ReportResult(ctx, agentID, reporter.Result{CommandID: "c", Status: "completed", Data: bad}))
		_, err := c.Heartbeat(ctx, agentID, heartbeat.Beat{})
		require.NoError(t, err, "the server was hurt by %v", bad)
	}
}
