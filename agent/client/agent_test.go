package client_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// startAgent runs an agent and returns a client that speaks to its Handler. Run's
// error arrives in ended.
func startAgent(t *testing.T, run *runnertest.Fake) (c *client.Client, ended chan error) {
	t.Helper()
	a, err := agent.New(agent.Config{
		Name: "gpu-1", Version: "1.2.3", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: run, Token: "secret",
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	<-a.Ready()
	server := httptest.NewServer(a.Handler())
	t.Cleanup(server.Close)
	t.Cleanup(stop)
	c, err = client.New(client.Config{URL: server.URL, Token: "secret"})
	require.NoError(t, err)
	return c, ended
}

// Whatever the agent says of itself, a client reads.
func TestAgent(t *testing.T) {
	t.Parallel()
	c, ended := startAgent(t, &runnertest.Fake{Lines: []string{"one", "two"}})
	require.NoError(t, c.Healthy(t.Context()))
	_, err := c.Command(t.Context(), client.Command{ID: "c1", TestID: "t1", Type: agent.TypeRunTest, Payload: map[string]string{
		"model_path": "org/model", "engine_name": "vllm", "suite_name": "quick", "benchmark_name": "throughput",
	}})
	require.NoError(t, err)
	var lines []string
	end, err := c.Follow(t.Context(), "t1", func(e client.Event) error {
		lines = append(lines, e.Line())
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, client.End{Status: "completed"}, end)
	require.Subset(t, lines, []string{"one", "two"})

	status, raw, err := c.Status(t.Context())
	require.NoError(t, err)
	again, err := json.Marshal(status)
	require.NoError(t, err)
	require.JSONEq(t, string(raw), string(again), "a field is lost")
	require.Equal(t, "1.2.3", status.Version)
	job := status.Job("t1")
	require.NotNil(t, job)
	require.Equal(t, job, status.Job("c1"))
	require.Equal(t, agent.StateCompleted, job.State)
	require.WithinDuration(t, time.Now(), job.EndedAt, time.Minute)
	require.Nil(t, status.Job("other"))

	engines, err := c.Engines(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(engines), `"engines"`)
	running, err := c.Stop(t.Context(), client.StopDrain)
	require.NoError(t, err)
	require.Zero(t, running)
	require.NoError(t, <-ended)
	require.ErrorContains(t, c.Ready(t.Context()), "stopping")
}

// An agent's rejections arrive as APIErrors.
func TestAgentRejects(t *testing.T) {
	t.Parallel()
	c, _ := startAgent(t, &runnertest.Fake{})
	for _, tt := range []struct {
		cmd  client.Command
		want int
	}{
		{client.Command{Type: "unknown"}, 400},
		{client.Command{Type: agent.TypeCancel, TestID: "none"}, 404},
	} {
		_, err := c.Command(t.Context(), tt.cmd)
		var rejected *client.APIError
		require.ErrorAs(t, err, &rejected)
		require.Equal(t, tt.want, rejected.Status)
		require.NotEmpty(t, rejected.Message)
	}
	_, err := c.Stop(t.Context(), "soon")
	require.ErrorContains(t, err, "Invalid mode")
	stranger, err := client.New(client.Config{URL: c.URL(), Token: "another"})
	require.NoError(t, err)
	_, err = stranger.Engines(t.Context())
	require.EqualError(t, err, "Unauthorized: the running agent has another token than the client's settings; restart it, or run the command as its user")
}
