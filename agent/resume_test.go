package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// engine is a runner whose runs live outside of the agent, as containers do:
// they go on while no agent looks.
type engine struct {
	lines int
	pace  time.Duration

	mu   sync.Mutex
	runs map[string]*externalRun
	gone bool // whether runs vanish without a trace
}

type externalRun struct {
	started time.Time
	stopped bool
	begun   int // how often it was started
}

// printed returns what a run has printed by now, and whether it has ended.
func (e *engine) printed(r *externalRun) (text string, ended bool) {
	n := min(int(time.Since(r.started)/e.pace), e.lines)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String(), n == e.lines || r.stopped
}

func (e *engine) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	e.mu.Lock()
	if e.runs == nil {
		e.runs = map[string]*externalRun{}
	}
	r := e.runs[job.ID]
	if r == nil {
		r = &externalRun{started: time.Now()}
		e.runs[job.ID] = r
	}
	r.begun++
	e.mu.Unlock()
	return e.follow(ctx, job, r, 0, out)
}

func (e *engine) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	e.mu.Lock()
	r := e.runs[job.ID]
	gone := e.gone
	e.mu.Unlock()
	switch {
	case gone:
		return runner.Result{}, &runner.Error{Class: runner.ClassLost, Text: "the container is gone without a trace", Err: runner.ErrLost}
	case r == nil:
		return runner.Result{}, runner.ErrNotStarted
	}
	return e.follow(ctx, job, r, int64(from), out)
}

func (e *engine) follow(ctx context.Context, job runner.Job, r *externalRun, offset int64, out runner.Output) (runner.Result, error) {
	for {
		e.mu.Lock()
		text, ended := e.printed(r)
		e.mu.Unlock()
		if err := out.WriteOutput([]byte(text[offset:]), time.Now(), runner.Position(offset)); err != nil {
			return runner.Result{}, err
		}
		offset = int64(len(text))
		if ended {
			return runner.Result{Runner: "engine"}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(`{"passed":true}`), 0o600)
		}
		select {
		case <-time.After(e.pace):
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), runner.ErrDetach) {
				e.mu.Lock()
				r.stopped = true
				e.mu.Unlock()
			}
			return runner.Result{}, context.Cause(ctx)
		}
	}
}

func TestARestartDoesNotTouchTheBenchmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1000, pace: 100 * time.Millisecond}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		for range 5 {
			<-time.After(7 * time.Second)
			stop()
			status, _ := srv.Status(id)
			require.Equal(t, "running", status, "stopping the agent ends nothing")
			<-time.After(3 * time.Second)
			_, stop = start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		}
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
		require.Equal(t, numbered(1000), benchmarkLines(srv.Lines(id)))
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Len(t, srv.Results(), 1)
		for _, r := range eng.runs {
			require.Equal(t, 1, r.begun)
		}
	})
}

func TestAJobThatEndedWhileNoAgentWasThereIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 100, pace: 100 * time.Millisecond}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(time.Second)
		stop()
		<-time.After(time.Hour)
		_, stop = start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Equal(t, numbered(100), benchmarkLines(srv.Lines(id)))
	})
}

// TestAJobThatEndedInTimeWhileNoAgentWasThereIsNotStopped has the agent come back
// long after the time limit of a job that had ended well before.
func TestAJobThatEndedInTimeWhileNoAgentWasThereIsNotStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &runnertest.FakeResumer{Fake: runnertest.Fake{Lines: []string{"line 0"}, Hangs: true}}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir, MaxJobDuration: time.Hour})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(10 * time.Second)
		stop()
		<-time.After(24 * time.Hour)
		ended := &runnertest.FakeResumer{Fake: runnertest.Fake{Lines: []string{"line 0"}}, Begun: []string{run.Jobs()[0].ID}}
		_, stop = start(t, agent.Config{Server: srv, Runner: ended, Dir: dir, MaxJobDuration: time.Hour})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
	})
}

func TestAJobThatIsGoneWithoutATraceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 100, pace: time.Second}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(10 * time.Second)
		stop()
		eng.gone = true
		a, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Equal(t, "the container is gone without a trace", reason)
		require.Equal(t, runner.ClassLost, a.Status().Recent[0].Class)
	})
}

func TestACancelWhileNoAgentWasThereIsCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1 << 20, pace: time.Second}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(10 * time.Second)
		stop()
		srv.Fail(id, "Cancelled by user")
		a, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		<-time.After(time.Minute)
		require.Empty(t, a.Status().Jobs)
		require.Equal(t, agent.StateCancelled, a.Status().Recent[0].State)
		require.Equal(t, []string{"queued", "dispatched", "running", "failed"}, srv.History(id))
		for _, r := range eng.runs {
			require.True(t, r.stopped)
		}
	})
}

// memoryDir returns a directory in memory where there is such a file system, so
// that a test of a thousand jobs doesn't wait for the disk several thousand
// times.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kitt-agent-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// TestLostCommandsAreFoundAndRunOnce cuts the answers of heartbeats at random:
// every test runs exactly once.
func TestLostCommandsAreFoundAndRunOnce(t *testing.T) {
	const rounds = 1000
	dir := memoryDir(t)
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		beats := 0
		srv.LoseAnswer = func(kind string) error {
			if kind != "heartbeat" {
				return nil
			}
			beats++
			if beats*7919%13 < 6 {
				return errors.New("unexpected EOF")
			}
			return nil
		}
		run := &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
			return runner.Result{}, nil
		}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir, MaxConcurrentJobs: 8})
		defer stop()
		for i := range rounds {
			id := srv.Launch(fmt.Sprintf("m%d", i))
			require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
		}
		seen := map[string]int{}
		for _, job := range run.ran() {
			seen[job.Model]++
		}
		require.Len(t, seen, rounds)
		for model, n := range seen {
			require.Equal(t, 1, n, model)
		}
	})
}

func TestACommandOlderThanTheLimitIsNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		lose := true
		srv.LoseAnswer = func(kind string) error {
			if lose && kind == "heartbeat" {
				lose = false
				return errors.New("unexpected EOF")
			}
			return nil
		}
		old := srv.Launch("m")
		_, err := srv.Register(t.Context(), agent.Registration{Name: "gpu-01"})
		require.NoError(t, err)
		_, err = srv.Heartbeat(t.Context(), "id-of-gpu-01", heartbeat.Beat{})
		require.Error(t, err)
		<-time.After(25 * time.Hour)
		run := &play{run: prints(1, 0)}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		<-time.After(time.Hour)
		require.Empty(t, run.ran())
		status, _ := srv.Status(old)
		require.Equal(t, "dispatched", status)
	})
}
