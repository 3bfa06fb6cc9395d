package agent_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
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

func TestNewSaysOnceWhatItCannotPromise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cfg    agent.Config
		says   []string
		silent []string
	}{
		{
			"a plain runner", agent.Config{Runner: &play{}, Server: &agenttest.Server{}},
			[]string{"Runner is no Resumer", "no Cleaner", "no Sweeper"}, []string{"Inquirer"},
		},
		{
			"a wrapped one that resumes", agent.Config{Runner: countedRunner{Runner: &engine{}}, Server: &agenttest.Server{}},
			[]string{"no Cleaner"}, []string{"Resumer"},
		},
		{"no reporter", agent.Config{Runner: &play{}, Server: giver{&agenttest.Server{}}}, []string{"Reporter is missing"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log strings.Builder
			c.cfg.Name, c.cfg.Dir, c.cfg.Logger = "gpu-01", t.TempDir(), slog.New(slog.NewTextHandler(&log, nil))
			_, err := agent.New(c.cfg)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(log.String(), "not everything can be promised"))
			for _, text := range c.says {
				require.Contains(t, log.String(), text)
			}
			for _, text := range c.silent {
				require.NotContains(t, log.String(), text)
			}
		})
	}
}

// countedReporter and countedStorage count calls, as a program's metrics do.
type countedReporter struct {
	reporter.Reporter
	results *atomic.Int64
}

func (c countedReporter) ReportResult(ctx context.Context, agentID string, r reporter.Result) error {
	c.results.Add(1)
	return c.Reporter.ReportResult(ctx, agentID, r)
}

func (c countedReporter) Unwrap() reporter.Reporter { return c.Reporter }

type countedStorage struct {
	storage.Storage
	acquired *atomic.Int64
}

func (c countedStorage) Acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	c.acquired.Add(1)
	return c.Storage.Acquire(ctx, req)
}

func (c countedStorage) Unwrap() storage.Storage { return c.Storage }

// Half of all answers are lost after the server took the request, and the agent is
// restarted in mid-run. Wrapped or not, every line and every report arrives once.
func TestWrappedPartsLoseNothingWithLostAnswers(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "wrapped"}[wrapped], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				var requests atomic.Int64
				srv.LoseAnswer = func(kind string) error {
					if kind != "ask" && requests.Add(1)%2 == 0 {
						return io.ErrUnexpectedEOF
					}
					return nil
				}
				eng := &engine{lines: 300, pace: 100 * time.Millisecond}
				cfg := agent.Config{Server: srv, Runner: eng, Storage: &storagetest.Fake{}, Dir: t.TempDir()}
				var runs, results, acquired atomic.Int64
				if wrapped {
					cfg.Runner = countedRunner{eng, &runs}
					cfg.Reporter = countedReporter{countedReporter{srv, &results}, &results}
					cfg.Storage = countedStorage{cfg.Storage, &acquired}
				}
				_, stop := start(t, cfg)
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "running"))
				<-time.After(10 * time.Second)
				stop()
				_, stop = start(t, cfg)
				defer stop()
				require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
				require.Equal(t, numbered(300), benchmarkLines(srv.Lines(id)))
				require.Len(t, srv.Results(), 1)
				for _, r := range eng.runs {
					require.Equal(t, 1, r.begun)
				}
				if wrapped {
					require.Equal(t, int64(1), runs.Load())
					require.Positive(t, results.Load())
					require.Positive(t, acquired.Load())
				}
			})
		})
	}
}
