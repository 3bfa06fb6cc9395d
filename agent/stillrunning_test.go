package agent_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
)

// stays is an engine whose runs survive being stopped as often as stubborn says.
type stays struct{ stubborn }

func (s *stays) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	result, err := s.stubborn.Run(ctx, job, out)
	if ctx.Err() != nil && context.Cause(ctx) != runner.ErrDetach {
		s.engine.mu.Lock()
		s.runs[job.ID].stopped = false
		s.engine.mu.Unlock()
		return result, fmt.Errorf("%w; %w in the container c1", context.Cause(ctx), runner.ErrStillRunning)
	}
	return result, err
}

// TestACancelIsOverWhenTheBenchmarkHasEnded has a benchmark that can't be ended at first:
// the cancel says so, no other begins, and once it has ended the job has too.
func TestACancelIsOverWhenTheBenchmarkHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, &stays{stubborn{engine: &engine{lines: 1 << 20, pace: time.Second}, fails: 10}}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		first, second := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, time.Minute), first, "running"))
		time.Sleep(10 * time.Second)
		require.ErrorIs(t, a.Cancel(within(t, time.Minute), first, "user"), context.DeadlineExceeded)
		status := a.Status()
		require.Equal(t, agent.StateRunning, status.Jobs[0].State)
		require.Equal(t, heartbeat.StatusRunning, status.State)
		require.Len(t, status.Warnings, 1)
		require.Contains(t, status.Warnings[0], "may still be running")
		name, _ := srv.Status(second)
		require.Equal(t, "dispatched", name)

		require.NoError(t, srv.WaitEnded(within(t, 2*time.Minute), first))
		_, reason := srv.Status(first)
		require.Equal(t, "Cancelled by user", reason)
		require.Contains(t, srv.Lines(first), "The benchmark has ended")
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "running"))
		synctest.Wait()
		require.Empty(t, a.Status().Warnings)
		starts, stopped := run.times()
		require.Len(t, starts, 2)
		require.False(t, starts[1].Before(stopped))
	})
}

// TestTheNextStartEndsWhatCouldNotBeEnded stops the agent while a cancelled benchmark
// can't be ended.
func TestTheNextStartEndsWhatCouldNotBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, &stays{stubborn{engine: &engine{lines: 1 << 20, pace: time.Second}, fails: 1000}}
		cfg := agent.Config{Server: srv, Runner: run, Dir: t.TempDir()}
		a, stop := start(t, cfg)
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		require.Error(t, a.Cancel(within(t, time.Minute), id, "user"))
		stop()
		name, _ := srv.Status(id)
		require.Equal(t, "running", name, "it may run")
		run.mu.Lock()
		run.fails = run.tried + 2
		run.mu.Unlock()
		_, stop = start(t, cfg)
		defer stop()
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		_, reason := srv.Status(id)
		require.Equal(t, "Cancelled by user", reason)
	})
}
