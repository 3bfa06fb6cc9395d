package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// stubborn is an engine whose runs take a while to end, and that may have lost
// its own files about them.
type stubborn struct {
	*engine
	takes time.Duration // to end a run
	fails int           // attempts to end a run that don't succeed
	blind bool          // whether Resume knows of no run

	mu      sync.Mutex
	tried   int
	stopped time.Time
	started []time.Time
}

func (s *stubborn) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	s.mu.Lock()
	s.started = append(s.started, time.Now())
	s.mu.Unlock()
	return s.engine.Run(ctx, job, out)
}

func (s *stubborn) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if s.blind {
		return runner.Result{}, runner.ErrNotStarted
	}
	if ctx.Err() == nil {
		return s.engine.Resume(ctx, job, from, out)
	}
	<-time.After(s.takes)
	s.mu.Lock()
	s.tried++
	failed := s.tried <= s.fails
	s.mu.Unlock()
	if failed {
		return runner.Result{}, fmt.Errorf("%w: %w", context.Cause(ctx), runner.ErrStillRunning)
	}
	if !s.end(job.ID) {
		return runner.Result{}, runner.ErrNotStarted
	}
	return runner.Result{}, context.Cause(ctx)
}

// end stops a run, and reports whether there is one.
func (s *stubborn) end(id string) bool {
	s.engine.mu.Lock()
	r := s.runs[id]
	if r != nil {
		r.stopped = true
	}
	s.engine.mu.Unlock()
	s.mu.Lock()
	s.stopped = time.Now()
	s.mu.Unlock()
	return r != nil
}

func (s *stubborn) Sweep(_ context.Context, claimed func(string) bool, grace time.Duration) (ended []string, err error) {
	s.engine.mu.Lock()
	runs := maps.Clone(s.runs)
	s.engine.mu.Unlock()
	for id, r := range runs {
		if !claimed(id) && time.Since(r.started) >= grace {
			<-time.After(s.takes)
			s.end(id)
			ended = append(ended, id)
		}
	}
	return ended, nil
}

// times returns when runs were begun, and when the last one was ended.
func (s *stubborn) times() (started []time.Time, stopped time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.started...), s.stopped
}

// leave has an agent begin a benchmark, with another job behind it, stops the
// agent, and returns the ids of the tests and the directory of the first job.
func leave(t *testing.T, srv *agenttest.Server, run runner.Runner, dir string) (first, second, job string) {
	t.Helper()
	a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
	first, second = srv.Launch("a"), srv.Launch("b")
	require.NoError(t, srv.Wait(within(t, 5*time.Minute), first, "running"))
	require.NoError(t, srv.Wait(within(t, 5*time.Minute), second, "dispatched"))
	<-time.After(10 * time.Second)
	stop()
	return first, second, a.Jobs()[0].Dir
}

// TestAnUnreadableJobsBenchmarkIsEndedBeforeAnythingBegins breaks the files of a
// job whose benchmark runs, whichever they are: its test fails, its benchmark is
// ended, and only then does the next one begin, though two may run at once.
func TestAnUnreadableJobsBenchmarkIsEndedBeforeAnythingBegins(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		files []string
		run   *stubborn
	}{
		"command":                    {files: []string{"command.json"}, run: &stubborn{}},
		"record":                     {files: []string{"job.json"}, run: &stubborn{}},
		"both":                       {files: []string{"command.json", "job.json"}, run: &stubborn{}},
		"all":                        {files: []string{"command.json", "job.json", "log", "delivery"}, run: &stubborn{}},
		"the runner's files as well": {files: []string{"job.json"}, run: &stubborn{blind: true}},
		"it takes several attempts":  {files: []string{"job.json"}, run: &stubborn{fails: 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv, dir := &agenttest.Server{}, t.TempDir()
				run := tt.run
				run.engine, run.takes = &engine{lines: 1 << 20, pace: time.Second}, 30*time.Second
				first, second, job := leave(t, srv, run, dir)
				for _, file := range tt.files {
					require.NoError(t, os.WriteFile(filepath.Join(job, file), []byte("{\x00"), 0o600))
				}

				a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir, MaxConcurrentJobs: 2})
				defer stop()
				require.NoError(t, srv.WaitEnded(within(t, time.Hour), first))
				status, reason := srv.Status(first)
				require.Equal(t, "failed", status)
				require.Contains(t, reason, "damaged")
				require.NoError(t, srv.Wait(within(t, time.Minute), second, "running"))
				synctest.Wait()
				begun, ended := run.times()
				require.Len(t, begun, 2)
				require.False(t, ended.IsZero())
				require.False(t, begun[1].Before(ended), "begun %s before the end", ended.Sub(begun[1]))
				require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "set aside")
				if tt.run.fails > 0 {
					require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "could not be ended")
				}
			})
		})
	}
}

// TestTheLogOfAnUnreadableJobArrives breaks a job's record while lines of its log
// wait for the server.
func TestTheLogOfAnUnreadableJobArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, dir := &agenttest.Server{}, t.TempDir()
		run := &engine{lines: 1 << 20, pace: time.Second}
		first, _, job := leave(t, srv, run, dir)
		require.NoError(t, os.WriteFile(filepath.Join(job, "job.json"), nil, 0o600))
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Hour), first, "failed"))
		lines := srv.Lines(first)
		require.Equal(t, numbered(len(benchmarkLines(lines))), benchmarkLines(lines), "each once")
		require.Equal(t, "Benchmark failed", lines[len(lines)-1])
		require.Equal(t, []string{"queued", "dispatched", "running", "failed"}, srv.History(first))
	})
}

// TestABenchmarkThatCannotBeEnded never ends: the agent can be stopped all the
// same, the next one goes on trying, and a cancel lets the next job begin.
func TestABenchmarkThatCannotBeEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, dir := &agenttest.Server{}, t.TempDir()
		run := &stubborn{engine: &engine{lines: 1 << 20, pace: time.Second}, fails: 1 << 30}
		first, second, job := leave(t, srv, run, dir)
		require.NoError(t, os.WriteFile(filepath.Join(job, "job.json"), nil, 0o600))
		for range 2 {
			_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
			<-time.After(time.Hour)
			status, _ := srv.Status(first)
			require.Equal(t, "running", status)
			status, _ = srv.Status(second)
			require.Equal(t, "dispatched", status)
			stop()
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		<-time.After(time.Minute)
		require.NoError(t, a.Cancel(within(t, time.Minute), first, "user"))
		require.NoError(t, srv.Wait(within(t, time.Minute), first, "failed"))
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "running"))
	})
}

// quiet is a server that can't say which test a command belongs to.
type quiet struct {
	agent.Server
	reporter.Reporter
}

func TestATestThatNobodyKnowsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, dir := &agenttest.Server{}, t.TempDir()
		run := &engine{lines: 1 << 20, pace: time.Second}
		_, second, job := leave(t, srv, run, dir)
		for _, file := range []string{"command.json", "job.json"} {
			require.NoError(t, os.WriteFile(filepath.Join(job, file), nil, 0o600))
		}
		a, stop := start(t, agent.Config{Server: quiet{srv, srv}, Reporter: quiet{srv, srv}, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "running"))
		synctest.Wait()
		require.Zero(t, a.Status().Undelivered)
	})
}

// TestTheServerIsAskedForALostTestUntilItAnswers loses a test's id while the
// server is away.
func TestTheServerIsAskedForALostTestUntilItAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		srv, dir := &agenttest.Server{}, t.TempDir()
		srv.Fault = func(string) error {
			if away.Load() {
				return errors.New("away")
			}
			return nil
		}
		run := &engine{lines: 1 << 20, pace: time.Second}
		first, _, job := leave(t, srv, run, dir)
		for _, file := range []string{"command.json", "job.json"} {
			require.NoError(t, os.Remove(filepath.Join(job, file)))
		}
		away.Store(true)
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		<-time.After(10 * time.Minute)
		stop()
		away.Store(false)
		_, stop = start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Hour), first, "failed"))
	})
}
