package agent_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: hangs}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		running, waiting := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), running, "running"))
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), waiting, "dispatched"))
		synctest.Wait()

		require.NoError(t, a.Cancel(within(t, time.Minute), waiting, "user"))
		require.NoError(t, srv.Wait(within(t, time.Minute), waiting, "failed"))
		require.NoError(t, a.Cancel(within(t, time.Minute), running, "user"))
		require.NoError(t, srv.Wait(within(t, time.Minute), running, "failed"))
		for _, id := range []string{running, waiting} {
			_, reason := srv.Status(id)
			require.Equal(t, "Cancelled by user", reason)
			require.ErrorIs(t, a.Cancel(t.Context(), id, "user"), agent.ErrEnded)
		}
		require.Len(t, run.ran(), 1, "what waited never ran")
		require.ErrorIs(t, a.Cancel(t.Context(), "nobody", "user"), agent.ErrNoJob)
		require.Equal(t, []string{"queued", "dispatched", "failed"}, srv.History(waiting))
	})
}

// TestCancelOfATestWithSeveralJobs runs one test again and again: a cancel means
// the job that runs.
func TestCancelOfATestWithSeveralJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last atomic.Bool
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{
			run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
				if last.Load() {
					return hangs(ctx, job, out)
				}
				return runner.Result{}, nil
			},
		}})
		defer stop()
		synctest.Wait()
		for i := range 10 {
			last.Store(i == 9)
			_, err := a.Submit(agent.Benchmark{TestID: "test-1", Model: "m"})
			require.NoError(t, err)
			synctest.Wait()
		}
		require.NoError(t, a.Cancel(within(t, time.Minute), "test-1", "user"))
		require.Empty(t, a.Status().Jobs)
		require.ErrorIs(t, a.Cancel(t.Context(), "test-1", "user"), agent.ErrEnded)
	})
}

func TestATestStoppedOnTheServerIsStoppedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		running, waiting := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), running, "running"))
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), waiting, "dispatched"))
		srv.Fail(running, "Cancelled by user")
		srv.Fail(waiting, "Cancelled by user")
		<-time.After(2 * time.Minute)
		require.Empty(t, a.Status().Jobs)
		require.Equal(t, []string{"queued", "dispatched", "running", "failed"}, srv.History(running), "one end, and no step back")
		require.Equal(t, []string{"queued", "dispatched", "failed"}, srv.History(waiting))
		require.Equal(t, "user on the server", a.Status().Recent[0].CancelledBy)
	})
}

// TestATestStoppedWhileTheAgentReportsThatItRuns has somebody stop a test after the
// agent looked at it and before the server gets the report that it runs. The server
// then calls the test running; the benchmark is stopped nevertheless.
func TestATestStoppedWhileTheAgentReportsThatItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var launched atomic.Pointer[string]
		srv.Fault = func(kind string) error {
			if kind == "status" {
				if id := launched.Swap(nil); id != nil {
					srv.Fail(*id, "Cancelled by user")
				}
			}
			return nil
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		test := srv.Launch("a")
		launched.Store(&test)
		<-time.After(2 * time.Minute)
		require.Empty(t, a.Status().Jobs)
		require.Equal(t, []string{"queued", "dispatched", "failed", "running", "failed"}, srv.History(test))
		_, reason := srv.Status(test)
		require.Equal(t, "Cancelled by user on the server", reason)
	})
}

// TestABenchmarkThatOutlivesItsCancel has a runner that can't end what it runs:
// the job is cancelled, and its log says that the machine may not be free.
func TestABenchmarkThatOutlivesItsCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{
			run: func(ctx context.Context, _ runner.Job, _ runner.Output) (runner.Result, error) {
				<-ctx.Done()
				return runner.Result{}, fmt.Errorf("%w; %w in the container c1", context.Cause(ctx), runner.ErrStillRunning)
			},
		}})
		defer stop()
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait() // the server hears it while the job is still prepared
		require.ErrorIs(t, a.Cancel(within(t, time.Minute), id, "user"), runner.ErrStillRunning)
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Equal(t, "Cancelled by user", reason)
		require.Contains(t, srv.Lines(id), "Warning: cancelled; the benchmark may still be running in the container c1")
	})
}

func TestTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, MaxJobDuration: time.Hour})
		defer stop()
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "running"))
		require.NoError(t, srv.Wait(within(t, 61*time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Contains(t, reason, "stopped after max_job_duration of 1h0m0s")
	})
}

func TestStopCancelEndsTheRunningJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, err := agent.New(agent.Config{Name: "x", Server: srv, Runner: &play{run: hangs}, Dir: t.TempDir()})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- a.Run(t.Context()) }()
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		a.CancelAll("operator")
		require.NoError(t, <-done)
		status, reason := srv.Status(id)
		require.Equal(t, "failed", status)
		require.Equal(t, "Cancelled by operator", reason)
	})
}

// stuckShelf is a storage whose copy takes for ever.
type stuckShelf struct{ shelf }

func (s *stuckShelf) Acquire(ctx context.Context, _ storage.Request) (*storage.Lease, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestCancelDuringTheModelsCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: hangs}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Storage: &stuckShelf{}})
		defer stop()
		id := srv.Launch("/models/huge")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait()
		begun := time.Now()
		require.NoError(t, a.Cancel(within(t, time.Minute), id, "user"))
		require.Zero(t, time.Since(begun))
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Equal(t, "Cancelled by user", reason)
		require.Empty(t, run.ran())
	})
}

func TestCancelDuringTheResultsUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused atomic.Int64
		var open atomic.Bool
		srv := &agenttest.Server{Fault: func(call string) error {
			if call == "result" && !open.Load() {
				refused.Add(1)
				return agenttest.ErrDown
			}
			return nil
		}}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(3, time.Second)}})
		defer stop()
		id := srv.Launch("a")
		<-time.After(2 * time.Minute)
		require.Positive(t, refused.Load(), "the result is on its way")
		begun := time.Now()
		require.ErrorIs(t, a.Cancel(within(t, time.Minute), id, "user"), agent.ErrEnded, "the benchmark is over, and the machine free")
		require.Zero(t, time.Since(begun))
		open.Store(true)
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
		<-time.After(5 * time.Minute)
		require.Len(t, srv.Results(), 1)
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Empty(t, a.Status().Jobs)
	})
}

func TestACancelWhileTheAgentStopsHoldsItUpForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		srv := &agenttest.Server{Fault: func(call string) error {
			if call == "log" && slow.Load() {
				<-time.After(5 * time.Second)
			}
			return nil
		}}
		eng := &engine{lines: 1 << 20, pace: time.Second}
		dir := t.TempDir()
		a, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir, DrainTimeout: 10 * time.Second})
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(10 * time.Second)
		slow.Store(true)
		<-time.After(2 * time.Second) // a line is on its way
		stopped := make(chan struct{})
		begun := time.Now()
		go func() {
			defer close(stopped)
			stop()
		}()
		<-time.After(time.Second)
		require.ErrorIs(t, a.Cancel(within(t, time.Minute), id, "user"), agent.ErrStopping)
		<-stopped
		require.LessOrEqual(t, time.Since(begun), 11*time.Second)
		slow.Store(false)
		_, stop = start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Equal(t, "Cancelled by user", reason, "the next start carries it out")
	})
}

func TestARestartDuringTheModelsCopyCopiesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: prints(1, 0)}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Storage: &stuckShelf{}, Dir: dir})
		id := srv.Launch("/models/huge")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait()
		stop()
		_, stop = start(t, agent.Config{Server: srv, Runner: run, Storage: &shelf{}, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Len(t, run.ran(), 1)
	})
}

// TestATestThatEndedOnTheServerFirst has a benchmark end while the server takes no
// reports, and somebody end its test there meanwhile: the agent hears of that too
// late, and can be stopped all the same.
func TestATestThatEndedOnTheServerFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		srv := &agenttest.Server{}
		srv.Fault = func(kind string) error {
			if away.Load() && kind != "heartbeat" && kind != "register" {
				return agenttest.ErrDown
			}
			return nil
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, time.Second)}})
		defer stop()
		away.Store(true)
		id := srv.Launch("m")
		<-time.After(5 * time.Minute)
		require.Equal(t, agent.StateCompleted, a.Jobs()[0].State)
		srv.Fail(id, "Cancelled by user")
		away.Store(false)
		<-time.After(5 * time.Minute)
		require.Zero(t, a.Status().Undelivered)
		require.Len(t, srv.Results(), 1)
		status, _ := srv.Status(id)
		require.Equal(t, "failed", status)
	})
}

// cleans is a runner that cleans up after stopped benchmarks.
type cleans struct {
	play
	cleaned chan string // IDs of jobs
}

func (c *cleans) Clean(_ context.Context, job runner.Job, _ time.Time, _ runner.Output) error {
	c.cleaned <- job.ID
	return nil
}

// TestACancelledJobIsCleanedUpAfter also while another one runs, which is not touched.
func TestACancelledJobIsCleanedUpAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &cleans{play: play{run: hangs}, cleaned: make(chan string, 2)}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, MaxConcurrentJobs: 2})
		defer stop()
		tests := []string{srv.Launch("a"), srv.Launch("b")}
		for _, test := range tests {
			require.NoError(t, srv.Wait(within(t, 5*time.Minute), test, "running"))
		}
		require.NoError(t, a.Cancel(within(t, time.Minute), tests[0], "user"))
		require.Equal(t, run.ran()[0].ID, <-run.cleaned)
		require.Empty(t, run.cleaned)
		require.NoError(t, a.Cancel(within(t, time.Minute), tests[1], "user"))
		require.Equal(t, run.ran()[1].ID, <-run.cleaned)
	})
}
