package agent_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner"
)

// freezableDir returns a directory on a file system of its own, and what freezes it:
// every write to it then hangs until thaw is called.
func freezableDir(t *testing.T) (dir string, freeze, thaw func()) {
	t.Helper()
	d, err := basetest.Freezable(t.TempDir())
	if err != nil {
		t.Skipf("no file system of its own for the test: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d.Path, func() { require.NoError(t, d.Freeze()) }, func() { require.NoError(t, d.Thaw()) }
}

// The disk with the jobs hangs while a benchmark runs. Status answers, a cancel ends
// the benchmark, and when the disk is back the job ends as it would have.
func TestADiskThatHangsHoldsUpNeitherStatusNorCancel(t *testing.T) {
	t.Parallel()
	dir, freeze, thaw := freezableDir(t)
	srv := &agenttest.Server{}
	stopped := make(chan struct{})
	run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		defer close(stopped)
		return hangs(ctx, job, out)
	}}
	a, url := serveAgent(t, agent.Config{Server: srv, Dir: dir, Runner: run})
	id, err := a.Submit(agent.Benchmark{ID: "job-1", Model: "m"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(run.ran()) == 1 }, 10*time.Second, time.Millisecond)

	freeze()
	status := func() agent.Status {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/status", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var s agent.Status
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&s))
		return s
	}
	require.Len(t, status().Jobs, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, a.Cancel(ctx, id, "user"), context.DeadlineExceeded, "its end cannot be written yet")
	<-stopped // though the disk hangs
	s := status()
	require.Len(t, s.Jobs, 1)
	require.Equal(t, "user", s.Jobs[0].CancelledBy)
	_, err = a.Job(id)
	require.NoError(t, err)

	thaw()
	ended, err := a.Wait(within(t, 10*time.Second), id)
	require.NoError(t, err)
	require.Equal(t, agent.StateCancelled, ended.State)
	require.Equal(t, "Cancelled by user", ended.Error)
}

// Every route answers while the disk with the jobs hangs, and the server gets
// heartbeats.
func TestEveryRouteAnswersWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	dir, freeze, thaw := freezableDir(t)
	srv := &agenttest.Server{}
	run := &play{run: hangs}
	a, url := serveAgent(t, agent.Config{Server: srv, Dir: dir, Runner: run, StopGrace: time.Second})
	id, err := a.Submit(agent.Benchmark{ID: "job-1", Model: "m"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(run.ran()) == 1 }, 10*time.Second, time.Millisecond)
	freeze()
	defer thaw()
	beats := len(srv.Beats())

	type question struct {
		body string
		want []int
	}
	questions := map[string][]question{
		"GET /api/status":     {{"", []int{200}}},
		"GET /healthz":        {{"", []int{200}}},
		"GET /readyz":         {{"", []int{200}}},
		"GET /metrics":        {{"", []int{404}}},
		"GET /api/engines":    {{"", []int{200}}},
		"GET /api/gpus":       {{"", []int{200}}},
		"GET /api/logs/{id}":  {{"", []int{200}}},
		"POST /api/heartbeat": {{"", []int{200}}},
		"POST /api/commands": {
			{`{"command_id":"job-2","type":"run_test","payload":{"model_path":"m","engine_name":"vllm","suite_name":"quick"}}`, []int{503}},
			{`{"type":"check_docker"}`, []int{200}},
			{`{"command_id":"job-1","type":"cancel"}`, []int{202}},
		},
		"POST /api/stop": {{`{"mode":"cancel"}`, []int{202}}}, // the last of all
	}
	patterns := agent.RoutesOf(a)
	slices.SortStableFunc(patterns, func(x, y string) int {
		return cmp.Compare(strings.Count(x, "stop"), strings.Count(y, "stop"))
	})
	for _, pattern := range patterns {
		require.Contains(t, questions, pattern, "a new route needs a question here")
		method, path, _ := strings.Cut(pattern, " ")
		for _, q := range questions[pattern] {
			ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
			req, err := http.NewRequestWithContext(ctx, method, url+strings.ReplaceAll(path, "{id}", id), strings.NewReader(q.body))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+apiToken)
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err, "%s %s", pattern, q.body)
			require.Contains(t, q.want, resp.StatusCode, "%s %s", pattern, q.body)
			require.NoError(t, resp.Body.Close())
			cancel()
		}
	}
	require.Greater(t, len(srv.Beats()), beats)
}
