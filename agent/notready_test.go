package agent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
)

var errAway = fmt.Errorf("the engine does not answer: %w", runner.ErrNotReady)

// awayRunner is an engine that is away at times. It begins nothing then.
type awayRunner struct {
	engine
	away atomic.Bool
	mute bool // answers CheckStart well all the same
}

func (r *awayRunner) CheckStart(context.Context) error {
	if r.away.Load() && !r.mute {
		return errAway
	}
	return nil
}

func (r *awayRunner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if r.away.Load() {
		return runner.Result{}, errAway
	}
	return r.engine.Run(ctx, job, out)
}

func newAwayRunner() *awayRunner {
	r := &awayRunner{engine: engine{lines: 3, pace: time.Second}}
	r.away.Store(true)
	return r
}

// waiting returns how often lines say that a job waits.
func waiting(lines []string) (n int) {
	for _, line := range lines {
		if strings.Contains(line, "Waiting to start: the engine does not answer") {
			n++
		}
	}
	return n
}

func TestJobsWaitForARunnerThatIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, newAwayRunner()
		a, stop := start(t, agent.Config{Server: srv, Runner: run, MaxJobDuration: time.Minute})
		defer stop()
		var ids []string
		for range 5 {
			ids = append(ids, srv.Launch("m"))
		}
		time.Sleep(3 * time.Minute)
		status := a.Status()
		require.Len(t, status.Jobs, 5)
		require.Equal(t, errAway.Error(), status.Jobs[0].WaitingFor)
		require.Empty(t, status.Jobs[1].WaitingFor, "its turn has not come")
		require.Len(t, status.Warnings, 1)
		require.Contains(t, status.Warnings[0], "the engine does not answer")
		require.Equal(t, heartbeat.StatusIdle, status.State)
		beats := len(srv.Beats())
		time.Sleep(2 * time.Minute)
		require.GreaterOrEqual(t, len(srv.Beats())-beats, 3, "heartbeats go on")
		require.Equal(t, 1, waiting(srv.Lines(ids[0])))

		run.away.Store(false)
		for _, id := range ids {
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		}
		require.Empty(t, a.Status().Warnings)
		for _, r := range run.runs {
			require.Equal(t, 1, r.begun)
		}
	})
}

func TestACancelEndsAJobThatWaitsForItsRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mute := range []bool{false, true} {
			srv, run := &agenttest.Server{}, newAwayRunner()
			run.mute = mute
			a, stop := start(t, agent.Config{Server: srv, Runner: run})
			first, second := srv.Launch("m"), srv.Launch("m")
			time.Sleep(time.Minute)
			require.NoError(t, a.Cancel(within(t, time.Second), first, "a test"))
			require.NoError(t, a.Cancel(within(t, time.Second), second, "a test"))
			for _, id := range []string{first, second} {
				require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
				_, reason := srv.Status(id)
				require.Equal(t, "Cancelled by a test", reason)
			}
			require.Empty(t, a.Status().Warnings)
			stop()
			require.Empty(t, run.runs)
		}
	})
}

func TestAJobThatWaitsForItsRunnerOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mute := range []bool{false, true} {
			srv, run := &agenttest.Server{}, newAwayRunner()
			run.mute = mute
			cfg := agent.Config{Server: srv, Runner: run, Dir: t.TempDir()}
			_, stop := start(t, cfg)
			id := srv.Launch("m")
			time.Sleep(time.Minute)
			stop()
			run.away.Store(false)
			_, stop = start(t, cfg)
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
			require.Equal(t, numbered(3), benchmarkLines(srv.Lines(id)))
			stop()
		}
	})
}

func TestDrainDoesNotWaitForARunnerThatIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, newAwayRunner()
		cfg := agent.Config{Name: "gpu-01", Server: srv, Runner: run, Dir: t.TempDir()}
		a, err := agent.New(cfg)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- a.Run(t.Context()) }()
		id := srv.Launch("m")
		time.Sleep(time.Minute)
		a.Drain()
		require.NoError(t, <-done)
		run.away.Store(false)
		_, stop := start(t, cfg)
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
	})
}

// TestARunThatIsNotReadyIsMadeAgain has an engine that seems ready and isn't: for a
// while, which the job waits out, and for good.
func TestARunThatIsNotReadyIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, newAwayRunner()
		run.mute = true
		a, stop := start(t, agent.Config{Server: srv, Runner: run, MaxJobDuration: 30 * time.Second})
		defer stop()
		id := srv.Launch("m")
		time.Sleep(time.Minute)
		require.Equal(t, errAway.Error(), a.Status().Jobs[0].WaitingFor)
		run.away.Store(false)
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Equal(t, 1, waiting(srv.Lines(id)))

		run.away.Store(true)
		id = srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), id))
		_, reason := srv.Status(id)
		require.Equal(t, errAway.Error(), reason)
	})
}

// brokenCheck panics when it is asked whether it can start a job.
type brokenCheck struct{ play }

func (*brokenCheck) CheckStart(context.Context) error { panic(errors.New("oops")) }

func TestACheckThatPanicsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &brokenCheck{play{run: prints(1, 0)}}})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), srv.Launch("m"), "completed"))
	})
}
