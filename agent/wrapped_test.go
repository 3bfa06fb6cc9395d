package agent_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// countedRunner counts runs, as a program's metrics do.
type countedRunner struct {
	runner.Runner
	runs *atomic.Int64
}

func (c countedRunner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	c.runs.Add(1)
	return c.Runner.Run(ctx, job, out)
}

func (c countedRunner) Unwrap() runner.Runner { return c.Runner }

func TestARestartDoesNotTouchTheBenchmarkOfAWrappedRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 100, pace: 100 * time.Millisecond}
		var runs atomic.Int64
		cfg := agent.Config{Server: srv, Runner: countedRunner{eng, &runs}, Dir: t.TempDir()}
		_, stop := start(t, cfg)
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(2 * time.Second)
		stop()
		status, _ := srv.Status(id)
		require.Equal(t, "running", status)
		_, stop = start(t, cfg)
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Equal(t, numbered(100), benchmarkLines(srv.Lines(id)))
		require.Equal(t, int64(1), runs.Load())
	})
}

// A wrapper without Unwrap hides that its runner can resume. The agent then
// stops the benchmark: left running, nothing would ever find it again.
func TestAStopEndsTheBenchmarkOfARunnerThatHidesItsResumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1000, pace: 100 * time.Millisecond}
		_, stop := start(t, agent.Config{Server: srv, Runner: struct{ runner.Runner }{eng}})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(2 * time.Second)
		stop()
		status, reason := srv.Status(id)
		require.Equal(t, "failed", status)
		require.Equal(t, runner.ErrCannotResume.Error(), reason)
		for _, r := range eng.runs {
			require.True(t, r.stopped, "the benchmark was left running")
		}
	})
}
