package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
	native "github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/enginetest"
	"github.com/kirizan/kitt-agent/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// play is a runner whose run is a function.
type play struct {
	run func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error)

	mu   sync.Mutex
	jobs []runner.Job
}

func (p *play) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	p.mu.Lock()
	p.jobs = append(p.jobs, job)
	p.mu.Unlock()
	return p.run(ctx, job, out)
}

func (p *play) ran() []runner.Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.jobs)
}

// prints returns a run that prints n lines, d apart, and writes metrics.
func prints(n int, d time.Duration) func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		stdout := runner.OutputWriter(out)
		for i := range n {
			fmt.Fprintf(stdout, "line %d\n", i)
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return runner.Result{}, context.Cause(ctx)
			}
		}
		metrics := fmt.Sprintf(`{"model": %q, "engine": %q, "timestamp": "2026-11-23T16:17:04", "passed": true, "results": []}`, job.Model, job.Engine)
		return runner.Result{Runner: "play"}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(metrics), 0o600)
	}
}

// hangs is a run that goes on until it is stopped.
func hangs(ctx context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
	fmt.Fprintln(runner.OutputWriter(out), "hanging")
	<-ctx.Done()
	return runner.Result{}, context.Cause(ctx)
}

// start runs an agent inside the bubble until stop is called, which waits.
func start(t *testing.T, cfg agent.Config) (a *agent.Agent, stop func()) {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "gpu-01"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Engines == nil { // days in a bubble would look at this machine thousands of times
		cfg.Engines = &enginetest.Fake{Statuses: []native.Status{{Name: "vllm", Port: 8000}, {Name: "llama_cpp", Port: 8081}, {Name: "ollama", Port: 11434}}}
	}
	a, err := agent.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return a, sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// benchmarkLines returns what the benchmark itself printed.
func benchmarkLines(lines []string) []string {
	var own []string
	for _, l := range lines {
		if strings.HasPrefix(l, "line ") {
			own = append(own, l)
		}
	}
	return own
}

func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d", i)
	}
	return lines
}

func TestOneJobFromStartToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: prints(100, 100*time.Millisecond)}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		id := srv.Launch("/models/llama")
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))

		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Equal(t, numbered(100), benchmarkLines(srv.Lines(id)))
		require.Len(t, srv.Results(), 1)
		require.Equal(t, reporter.Completed, srv.Results()[0].Status)
		require.Equal(t, "/models/llama", srv.Results()[0].Data["model"])
		require.Len(t, run.ran(), 1)
		synctest.Wait()
		require.Zero(t, a.Status().Undelivered)
		require.Equal(t, agent.StateCompleted, a.Status().Recent[0].State)
		require.EqualValues(t, 104, a.Status().Recent[0].LogLines)
		tasks := map[string]bool{}
		for _, b := range srv.Beats() {
			require.Equal(t, b.Status == heartbeat.StatusRunning, b.Task != "")
			tasks[b.Task] = true
		}
		require.Equal(t, map[string]bool{"": true, id: true}, tasks, "the task is the test's id")
	})
}

func TestLinesAreSentOneByOneWhileTheServerKeepsUpAndJoinedInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(50, time.Second)}})
		defer stop()
		slow := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, 3*time.Minute), slow))
		for _, row := range srv.Rows(slow) {
			require.NotContains(t, row, "\n")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{Fault: slowLog(3 * time.Millisecond)} // as fast as the real one
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(10_000, 0)}})
		defer stop()
		flood := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, 3*time.Minute), flood))
		require.Equal(t, numbered(10_000), benchmarkLines(srv.Lines(flood)))
		require.LessOrEqual(t, len(srv.Rows(flood)), 500)
	})
}

func TestJobsRunOneAtATimeAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var now, most atomic.Int32
		one := prints(3, time.Second)
		run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			return one(ctx, job, out)
		}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		var ids []string
		for i := range 5 {
			ids = append(ids, srv.Launch(fmt.Sprintf("model-%d", i)))
		}
		for _, id := range ids {
			require.NoError(t, srv.Wait(within(t, 10*time.Minute), id, "completed"))
		}
		require.EqualValues(t, 1, most.Load())
		for i, job := range run.ran() {
			require.Equal(t, fmt.Sprintf("model-%d", i), job.Model)
		}
	})
}

func TestTheNextJobStartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var mu sync.Mutex
		var starts, ends []time.Time
		one := prints(5, time.Minute)
		run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			mu.Lock()
			starts = append(starts, time.Now())
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Now())
			}()
			return one(ctx, job, out)
		}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		first, second := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, time.Hour), first, "completed"))
		require.NoError(t, srv.Wait(within(t, time.Hour), second, "completed"))
		require.LessOrEqual(t, starts[1].Sub(ends[0]), 200*time.Millisecond)
	})
}

func TestTheSameCommandTwiceRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: prints(1, time.Second)}
		dir := t.TempDir()
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		cmd := agent.Benchmark{ID: "abc", Model: "m"}
		synctest.Wait()
		id, err := a.Submit(cmd)
		require.NoError(t, err)
		require.Equal(t, "abc", id)
		_, err = a.Submit(cmd)
		require.ErrorIs(t, err, agent.ErrDuplicate)
		<-time.After(time.Minute)
		_, err = a.Submit(cmd)
		require.ErrorIs(t, err, agent.ErrDuplicate)
		stop()
		_, err = a.RemoveModel("")
		require.ErrorIs(t, err, agent.ErrNotAccepting)

		a, stop = start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		synctest.Wait()
		_, err = a.Submit(cmd)
		require.ErrorIs(t, err, agent.ErrDuplicate)
		require.Len(t, run.ran(), 1)
	})
}

func TestUnsupportedCommandsFailWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: prints(1, 0)}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		for kind, want := range map[string]string{
			"start_engine":  "Invalid engine: ",
			"stop_engine":   "Invalid engine: ",
			"fly":           "Unknown command type: fly",
			"":              "type is missing",
			"engine_status": "Unsupported command type: engine_status",
		} {
			id := srv.Queue(heartbeat.Command{Type: kind})
			require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), id))
			status, reason := srv.Status(id)
			require.Equal(t, "failed", status)
			require.Contains(t, reason, want)
			require.Contains(t, strings.Join(srv.Lines(id), "\n"), want)
		}
		weird := srv.Queue(heartbeat.Command{ID: "../../etc/passwd", Type: agent.TypeRunTest, Payload: json.RawMessage(`{"model_path":"m"}`)})
		require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), weird))
		_, reason := srv.Status(weird)
		require.Contains(t, reason, "Invalid command_id")
		require.Empty(t, run.ran())
	})
}

func TestFailuresSayWhy(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		reason string
		class  string
	}{
		{"exit", &runner.ExitError{Code: 3}, "Exit 3", runner.ClassExit},
		{"memory", &runner.ExitError{Code: 137, Signal: "SIGKILL", OOMKilled: true}, "Exit 137: the kernel killed the benchmark because memory ran out", runner.ClassOOM},
		{"unavailable", &runner.Error{Class: runner.ClassUnavailable, Text: "nothing to run it with", Fix: "kitt-agent build", Err: runner.ErrUnavailable}, "nothing to run it with (kitt-agent build)", runner.ClassUnavailable},
		{"other", errors.New("boom"), "boom", "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
					return runner.Result{ContainerID: "c1"}, tt.err
				}}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
				_, reason := srv.Status(id)
				require.Equal(t, tt.reason, reason)
				require.Equal(t, "c1", srv.Results()[0].ContainerID)
				require.Equal(t, tt.class, a.Status().Recent[0].Class)
				require.Contains(t, srv.Lines(id), "Error: "+tt.reason)
			})
		})
	}
}

func TestAPanickingRunnerFailsItsJobOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
			panic("oops")
		}}})
		defer stop()
		for range 2 {
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Hour), id, "failed"))
			_, reason := srv.Status(id)
			require.Equal(t, "the runner panicked: oops", reason)
		}
	})
}

func TestAnOutageLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		srv := &agenttest.Server{}
		srv.Fault = func(string) error {
			if down.Load() {
				return agenttest.ErrDown
			}
			return nil
		}
		run := &play{run: prints(600, 100*time.Millisecond)}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(10 * time.Second)
		down.Store(true)
		<-time.After(20 * time.Minute) // longer than the job
		stop()
		down.Store(false)

		// A new agent delivers what the old one could not.
		_, stop = start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 2*time.Minute), id, "completed"))
		require.Equal(t, numbered(600), benchmarkLines(srv.Lines(id)))
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Len(t, srv.Results(), 1)
		require.Len(t, run.ran(), 1)
	})
}

func TestLostAnswersRepeatNothing(t *testing.T) {
	for seed := range 20 {
		synctest.Test(t, func(t *testing.T) {
			srv := &agenttest.Server{}
			var n atomic.Int64
			srv.LoseAnswer = func(string) error {
				if (n.Add(1)*2654435761+int64(seed)*40503)>>4%3 == 0 {
					return errors.New("connection reset by peer")
				}
				return nil
			}
			run := &play{run: prints(50, 300*time.Millisecond)}
			_, stop := start(t, agent.Config{Server: srv, Runner: run})
			defer stop()
			ids := []string{srv.Launch("a"), srv.Launch("b"), srv.Launch("c")}
			for _, id := range ids {
				require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
				require.Equal(t, numbered(50), benchmarkLines(srv.Lines(id)))
				require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
			}
			<-time.After(time.Minute)
			require.Len(t, srv.Results(), 3)
			require.Len(t, run.ran(), 3)
		})
	}
}

func TestARefusalIsSaidOnceAndTheResultStillGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// As kittapi says it, with the remedy at the end.
		const word = "Invalid authentication token: the server was started with a token of its own (--auth-token or KITT_AUTH_TOKEN) " +
			"and takes logs and statuses only with that one; write it into agent.yaml as server_token"
		srv := &agenttest.Server{}
		var logs atomic.Int32
		srv.Fault = func(kind string) error {
			if kind == "log" {
				logs.Add(1)
			}
			if kind == "log" || kind == "status" {
				return &reporter.RejectedError{Code: 403, Message: word}
			}
			return nil
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(100, time.Second)}})
		defer stop()
		srv.Launch("a")
		<-time.After(10 * time.Minute)
		require.Len(t, srv.Results(), 1)
		require.EqualValues(t, 1, logs.Load(), "a refusal doesn't flood")
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "(403: "+word+")")
	})
}

// A proxy that turned reports away for an hour, or a token that was set right on
// the server, costs nothing.
func TestRefusedReportsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		until := time.Now().Add(time.Hour)
		var refused atomic.Int32
		srv.Fault = func(kind string) error {
			if (kind == "log" || kind == "status") && time.Now().Before(until) {
				refused.Add(1)
				return &reporter.RejectedError{Code: 403, Message: "Invalid authentication token"}
			}
			return nil
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(100, time.Second)}})
		defer stop()
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, 2*time.Hour), id, "completed"))
		require.Equal(t, numbered(100), benchmarkLines(srv.Lines(id)))
		require.Len(t, srv.Results(), 1)
		require.LessOrEqual(t, refused.Load(), int32(20), "a refusal doesn't flood")
		synctest.Wait()
		require.Empty(t, a.Status().Warnings)
	})
}

func TestAResultThatBreaksTheServerIsSentWithoutItsData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var tries atomic.Int32
		broken := &poisoned{Server: srv, tries: &tries}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: broken, Runner: &play{run: prints(1, 0)}, Dir: dir})
		defer stop()
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, 30*time.Minute), id, "completed"))
		require.Len(t, srv.Results(), 1)
		require.Empty(t, srv.Results()[0].Data)
		require.LessOrEqual(t, tries.Load(), int32(20))
		kept, err := filepath.Glob(filepath.Join(dir, "jobs", "*", "result.json"))
		require.NoError(t, err)
		require.Len(t, kept, 1)
	})
}

// poisoned fails at every result that has data.
type poisoned struct {
	*agenttest.Server
	tries *atomic.Int32
}

func (p *poisoned) ReportResult(ctx context.Context, id string, r reporter.Result) error {
	p.tries.Add(1)
	if len(r.Data) > 0 {
		return fmt.Errorf("status 500: %w", reporter.ErrServerFailed)
	}
	return p.Server.ReportResult(ctx, id, r)
}

func TestJobsThatCannotBeResumedFailAtTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, Dir: dir})
		id := srv.Launch("a")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait() // the run itself has begun
		stop()
		status, reason := srv.Status(id)
		require.Equal(t, "failed", status)
		require.Contains(t, reason, "the agent was stopped")
	})
}

func TestDrainWaitsForTheRunningJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		run := &play{run: prints(10, time.Minute)}
		a, err := agent.New(agent.Config{Name: "x", Server: srv, Runner: run, Dir: dir})
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() { done <- a.Run(t.Context()) }()
		first, second := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, time.Minute), first, "running"))
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "dispatched"))
		a.Drain()
		require.NoError(t, <-done)
		status, _ := srv.Status(first)
		require.Equal(t, "completed", status)
		status, _ = srv.Status(second)
		require.Equal(t, "dispatched", status, "it waits on disk")

		_, stop := start(t, agent.Config{Name: "x", Server: srv, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Hour), second, "completed"))
	})
}

func TestOneAgentADirectory(t *testing.T) {
	dir := t.TempDir()
	cfg := agent.Config{Name: "x", Server: &agenttest.Server{}, Runner: &play{run: hangs}, Dir: dir}
	first, stop := start(t, cfg)
	defer stop()
	<-first.Ready()
	second, err := agent.New(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, second.Run(t.Context()), agent.ErrInUse)
}

func TestADamagedJobIsReportedAndStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		run := &play{run: prints(10, time.Minute)}
		a, err := agent.New(agent.Config{Name: "x", Server: srv, Runner: run, Dir: dir})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		first, second := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, time.Minute), first, "running"))
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "dispatched"))
		synctest.Wait()
		cancel()
		require.NoError(t, <-done)
		jobs, err := filepath.Glob(filepath.Join(dir, "jobs", "c*2", "job.json"))
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.NoError(t, os.WriteFile(jobs[0], []byte("{"), 0o600))

		a, stop := start(t, agent.Config{Name: "x", Server: srv, Runner: run, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "failed"))
		_, reason := srv.Status(second)
		require.Contains(t, reason, "damaged")
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "set aside")
	})
}

func TestMissingAndBrokenMetricsCompleteWithAWarning(t *testing.T) {
	for name, text := range map[string]string{"wrote no metrics.json": "", "metrics.json cannot be used": "{not json"} {
		synctest.Test(t, func(t *testing.T) {
			srv := &agenttest.Server{}
			_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: func(_ context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
				if text == "" {
					return runner.Result{}, nil
				}
				return runner.Result{}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(text), 0o600)
			}}})
			defer stop()
			id := srv.Launch("a")
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
			require.Contains(t, strings.Join(srv.Lines(id), "\n"), name)
			require.Nil(t, srv.Results()[0].Data)
		})
	}
}

// shelf is a storage with one model, which it remembers being asked for.
type shelf struct {
	mu       sync.Mutex
	acquired []storage.Request
	released int
	err      error
}

func (s *shelf) Acquire(_ context.Context, req storage.Request) (*storage.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acquired = append(s.acquired, req)
	if s.err != nil {
		return nil, s.err
	}
	return storage.NewLease("/local"+req.Model, storage.OriginCopied, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.released++
		return nil
	}), nil
}

func (s *shelf) Evict(context.Context, string) (storage.Eviction, error) {
	return storage.Eviction{Removed: []string{"/local/old"}, Kept: []storage.Kept{{Path: "/local/used", Reason: "a job uses it"}}}, nil
}

func (s *shelf) Usage(context.Context) (storage.Usage, error) {
	return storage.Usage{FreeBytes: 5 << 30, UsedBytes: 3 << 30, ModelCount: 2}, nil
}

// brought is a storage of the program's own with a fault in it.
type brought struct {
	shelf
	acquire func() (*storage.Lease, error)
}

func (b *brought) Acquire(context.Context, storage.Request) (*storage.Lease, error) {
	return b.acquire()
}

func (b *brought) Evict(context.Context, string) (storage.Eviction, error) { panic("oops") }

func TestAFaultOfTheStorageEndsTheJobAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		acquire func() (*storage.Lease, error)
		reason  string
	}{
		{"panics", func() (*storage.Lease, error) { panic("oops") }, "model /models/m: the storage panicked: oops"},
		{"gives nothing", func() (*storage.Lease, error) { return nil, nil }, "model /models/m: the storage gave neither a lease nor an error"},
		{"panics at the end", func() (*storage.Lease, error) {
			return storage.NewLease("/models/m", storage.OriginLocal, func() error { panic("oops") }), nil
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Storage: &brought{acquire: tt.acquire}})
				defer stop()
				id := srv.Launch("/models/m")
				require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
				_, reason := srv.Status(id)
				require.Equal(t, tt.reason, reason)
				id = srv.Queue(heartbeat.Command{Type: agent.TypeCleanupStorage})
				require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
				_, reason = srv.Status(id)
				require.Equal(t, "cleanup: the storage panicked: oops", reason)
			})
		})
	}
}

func TestTheModelIsFetchedLeasedAndReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		models := &shelf{}
		run := &play{run: prints(1, time.Second)}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Storage: models})
		defer stop()
		id := srv.Launch("/llama")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Equal(t, "/local/llama", run.ran()[0].Model)
		require.Equal(t, run.ran()[0].Dir, models.acquired[0].Holder, "no other agent's job has that name")
		require.Equal(t, 1, models.released)
		require.Equal(t, 5.0, a.Status().Storage.FreeGB)

		models.err = errors.New("share is not mounted")
		id = srv.Launch("/other")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Equal(t, "model /other: share is not mounted", reason)

		id = srv.Queue(heartbeat.Command{Type: agent.TypeCleanupStorage, Payload: json.RawMessage(`{"model_path":"__cleanup__"}`)})
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "completed"))
		require.Contains(t, srv.Lines(id), "Kept /local/used: a job uses it")
	})
}
