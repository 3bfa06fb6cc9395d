package simulated

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// noon is the time on the tests' clocks.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 386231000, time.UTC)

func fixedClock() time.Time { return noon }

// A recording is an Output that keeps what it is given, and when.
type recording struct {
	mu     sync.Mutex
	text   bytes.Buffer
	pieces []string
	times  []time.Time
}

func (r *recording) WriteOutput(p []byte, _ time.Time, _ runner.Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces = append(r.pieces, string(p))
	r.times = append(r.times, time.Now())
	_, err := r.text.Write(p)
	return err
}

func (r *recording) WriteMessage(text string) error {
	return fmt.Errorf("a simulated run has nothing of its own to say, and said %q", text)
}

func newJob(t testing.TB, id, model, suite string) runner.Job {
	t.Helper()
	return runner.Job{ID: id, Dir: t.TempDir(), ResultsDir: t.TempDir(), Model: model, Engine: "vllm", Suite: suite, GPUs: []string{runner.AllGPUs}}
}

func mustNew(t testing.TB, cfg Config) *Runner {
	t.Helper()
	r, err := New(cfg)
	require.NoError(t, err)
	return r
}

// run runs job and returns its log, its metrics.json (nil if there is none)
// and Run's error. Nothing else may lie in the results directory.
func run(t testing.TB, cfg Config, job runner.Job) (log, metrics []byte, err error) {
	t.Helper()
	var out recording
	res, err := mustNew(t, cfg).Run(t.Context(), job, &out)
	require.Equal(t, "simulated", res.Runner)
	require.False(t, res.Started.IsZero())
	require.False(t, res.Ended.Before(res.Started))
	return out.text.Bytes(), resultsFile(t, job), err
}

func resultsFile(t testing.TB, job runner.Job) []byte {
	t.Helper()
	entries, err := os.ReadDir(job.ResultsDir)
	require.NoError(t, err)
	if len(entries) == 0 {
		return nil
	}
	require.Len(t, entries, 1)
	data, err := os.ReadFile(filepath.Join(job.ResultsDir, "metrics.json"))
	require.NoError(t, err)
	return data
}

// normal takes the results directory, which differs between test runs, out of
// a log.
func normal(log []byte, job runner.Job) string {
	return strings.ReplaceAll(string(log), job.ResultsDir, "/results")
}

func TestSameSeedSameBytes(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"quick", "performance", "standard"} {
		cfg := Config{Seed: 7, Now: fixedClock, Scenario: Scenario{Progress: true, Flood: 100}}
		a, b := newJob(t, "job-a", "Llama-3.1-8B", suite), newJob(t, "job-a", "Llama-3.1-8B", suite)
		logA, metricsA, err := run(t, cfg, a)
		require.NoError(t, err)
		logB, metricsB, err := run(t, cfg, b)
		require.NoError(t, err)
		require.Equal(t, normal(logA, a), normal(logB, b))
		require.Equal(t, string(metricsA), string(metricsB))
	}
}

func TestSeedAndJobDecideTheFigures(t *testing.T) {
	t.Parallel()
	figures := func(cfg Config, id string) string {
		cfg.Now = fixedClock
		_, metrics, err := run(t, cfg, newJob(t, id, "Llama-3.1-8B", "performance"))
		require.NoError(t, err)
		return string(metrics)
	}
	plain := figures(Config{Seed: 1}, "a")
	require.NotEqual(t, plain, figures(Config{Seed: 2}, "a"), "another seed")
	require.NotEqual(t, plain, figures(Config{Seed: 1}, "b"), "another job")
	require.Equal(t,
		figures(Config{Seed: 1, SameForAllJobs: true}, "a"),
		figures(Config{Seed: 1, SameForAllJobs: true}, "b"))

	scenario, err := ParseScenario("progress,flood=50,long-line=100,invalid-utf8,slow")
	require.NoError(t, err)
	require.Equal(t, plain, figures(Config{Seed: 1, Scenario: scenario}, "a"), "a scenario")
	require.Equal(t, plain, figures(Config{
		Seed: 1, Speed: 1, Sleep: func(context.Context, time.Duration) error { return nil },
	}, "a"), "the speed")
}

func TestDelays(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		speed     float64
		scenario  Scenario
		low, high time.Duration
	}{
		{name: "real", speed: 1, low: 500 * time.Millisecond, high: 1500 * time.Millisecond},
		{name: "a tenth", speed: 0.1, low: 50 * time.Millisecond, high: 150 * time.Millisecond},
		{name: "slow", speed: 1, scenario: Scenario{Slow: 10}, low: 5 * time.Second, high: 15 * time.Second},
		{name: "none", speed: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job := newJob(t, "a", "8B", "performance")
			synctest.Test(t, func(t *testing.T) {
				var out recording
				last := time.Now()
				res, err := mustNew(t, Config{Speed: tt.speed, Scenario: tt.scenario}).Run(t.Context(), job, &out)
				require.NoError(t, err)
				require.Greater(t, len(out.times), 15)
				different := make(map[time.Duration]bool)
				for _, at := range out.times {
					// Some lines come together with the one before them.
					if gap := at.Sub(last); gap > 0 {
						require.GreaterOrEqual(t, gap, tt.low)
						require.LessOrEqual(t, gap, tt.high)
						different[gap] = true
					}
					last = at
				}
				require.Equal(t, tt.speed > 0, len(different) > 15, "delays are drawn")
				require.Equal(t, last, res.Ended)
			})
		})
	}
}

// A clock of one's own gives a run in no time with times as if it had taken
// long.
func TestOwnClock(t *testing.T) {
	t.Parallel()
	now := noon
	cfg := Config{
		Speed: 1,
		Now:   func() time.Time { return now },
		Sleep: func(_ context.Context, d time.Duration) error {
			now = now.Add(d)
			return nil
		},
	}
	job := newJob(t, "a", "8B", "quick")
	var out recording
	res, err := mustNew(t, cfg).Run(t.Context(), job, &out)
	require.NoError(t, err)
	require.Equal(t, noon, res.Started)
	require.Equal(t, now, res.Ended)
	require.Greater(t, now.Sub(noon), 5*time.Second)
	r := decode(t, resultsFile(t, job))
	require.Equal(t, "2026-11-23T12:00:00.386231", r["timestamp"])
	require.Greater(t, r["results"].([]any)[0].(map[string]any)["timestamp"], "2026-11-23T12:00:05")
}

func TestSleepFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("clock stopped")
	_, metrics, err := run(t, Config{Speed: 1, Sleep: func(context.Context, time.Duration) error { return broken }}, newJob(t, "a", "8B", "quick"))
	require.ErrorIs(t, err, broken)
	require.Nil(t, metrics)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, scenario string
		cause          error
	}{
		{name: "between lines", cause: errors.New("cancelled by a person")},
		{name: "let go", cause: runner.ErrDetach},
		{name: "hanging", scenario: "hang=2", cause: errors.New("drain is over")},
		{name: "within a progress bar", scenario: "progress,slow=100", cause: errors.New("enough")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			scenario, err := ParseScenario(tt.scenario)
			require.NoError(t, err)
			job := newJob(t, "a", "8B", "standard")
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				var out recording
				done := make(chan error)
				go func() {
					_, err := mustNew(t, Config{Speed: 1, Scenario: scenario}).Run(ctx, job, &out)
					done <- err
				}()
				time.Sleep(10*time.Second + 50*time.Millisecond)
				synctest.Wait()
				stopped := time.Now()
				stop(tt.cause)
				require.ErrorIs(t, <-done, tt.cause)
				require.Equal(t, stopped, time.Now(), "returned at once")
			})
			require.Nil(t, resultsFile(t, job))
		})
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancelCause(t.Context())
	cause := errors.New("too late")
	stop(cause)
	job := newJob(t, "a", "8B", "quick")
	var out recording
	_, err := mustNew(t, Config{}).Run(ctx, job, &out)
	require.ErrorIs(t, err, cause)
	require.Zero(t, out.text.Len())
	require.Nil(t, resultsFile(t, job))
}

// A flood at speed 0 never sleeps, and ends all the same.
func TestCancelInAFlood(t *testing.T) {
	t.Parallel()
	for _, scenario := range []Scenario{{Flood: maxLines}, {LongLine: maxLong}} {
		ctx, stop := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		out := writerFunc(func(p []byte) (int, error) {
			if len(p) > 1000 {
				stop(cause)
			}
			return len(p), nil
		})
		_, err := mustNew(t, Config{Scenario: scenario}).Run(ctx, newJob(t, "a", "8B", "quick"), runner.NewOutput(out))
		require.ErrorIs(t, err, cause)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestOutputAndFolderFail(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	job := newJob(t, "a", "8B", "quick")
	_, err := mustNew(t, Config{}).Run(t.Context(), job, runner.NewOutput(writerFunc(func([]byte) (int, error) { return 0, full })))
	require.ErrorIs(t, err, full)
	require.Nil(t, resultsFile(t, job))

	job.ResultsDir = filepath.Join(job.ResultsDir, "absent")
	_, err = mustNew(t, Config{}).Run(t.Context(), job, &recording{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "job a")

	// A folder in the place of metrics.json: the temporary file must go.
	job = newJob(t, "a", "8B", "quick")
	require.NoError(t, os.Mkdir(filepath.Join(job.ResultsDir, "metrics.json"), 0o755))
	_, err = mustNew(t, Config{}).Run(t.Context(), job, &recording{})
	require.Error(t, err)
	entries, err := os.ReadDir(job.ResultsDir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestARunWithoutFiles(t *testing.T) {
	t.Parallel()
	job := newJob(t, "a", "8B", "quick")
	_, want, err := run(t, Config{Now: fixedClock}, job)
	require.NoError(t, err)
	var paths []string
	var got []byte
	full := error(nil)
	cfg := Config{Now: fixedClock, WriteFile: func(path string, data []byte) error {
		paths, got = append(paths, path), data
		return full
	}}
	job.ResultsDir = "/no/such/folder"
	_, err = mustNew(t, cfg).Run(t.Context(), job, &recording{})
	require.NoError(t, err)
	require.Equal(t, []string{"/no/such/folder/metrics.json"}, paths)
	require.Equal(t, string(want), string(got))
	full = errors.New("disk full")
	_, err = mustNew(t, cfg).Run(t.Context(), job, &recording{})
	require.ErrorIs(t, err, full)
}

func TestNewNamesEveryFault(t *testing.T) {
	t.Parallel()
	nan := func() float64 { zero := 0.0; return zero / zero }()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{Speed: -1}, "Speed"},
		{Config{Speed: nan}, "Speed"},
		{Config{Hardware: Hardware{GPUs: -1}}, "Hardware.GPUs"},
		{Config{Hardware: Hardware{GPUs: 1}}, "Hardware.GPU.Model"},
		{Config{Hardware: Hardware{GPUs: 1, GPU: GPU{Model: "x", Bandwidth: nan}}}, "Hardware.GPU.Bandwidth"},
		{Config{Hardware: Hardware{GPUs: 1, GPU: GPU{Model: "x", FLOPS: -1}}}, "Hardware.GPU.FLOPS"},
		{Config{Hardware: Hardware{GPUs: 1, GPU: GPU{Model: "x", MemoryBytes: -1}}}, "Hardware.GPU.MemoryBytes"},
		{Config{Hardware: Hardware{Cores: -1}}, "Hardware.Cores"},
		{Config{Hardware: Hardware{RAMBytes: -1}}, "Hardware.RAMBytes"},
		{Config{Hardware: Hardware{RAMBandwidth: -1}}, "Hardware.RAMBandwidth"},
		{Config{Scenario: Scenario{FailAt: "somewhere"}}, "fail-at"},
		{Config{Scenario: Scenario{Exit: 256}}, "exit"},
		{Config{Scenario: Scenario{NoMetrics: true, BrokenMetrics: true}}, "exclude"},
	} {
		_, err := New(tt.cfg)
		require.ErrorContains(t, err, tt.want)
	}
	_, err := New(Config{Speed: -1, Hardware: Hardware{GPUs: -1}, Scenario: Scenario{Flood: -1}})
	require.ErrorContains(t, err, "Speed")
	require.ErrorContains(t, err, "GPUs")
	require.ErrorContains(t, err, "flood")
}

// TestTooManyOpenFiles waits where metrics.json can't be written for want of the machine.
func TestTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var written []byte
		r, err := New(Config{WriteFile: func(_ string, data []byte) error {
			if time.Since(begun) < time.Minute {
				return &os.PathError{Op: "open", Path: "metrics.json", Err: syscall.EMFILE}
			}
			written = data
			return nil
		}})
		require.NoError(t, err)
		var out recording
		_, err = r.Run(t.Context(), runner.Job{ID: "a", Model: "m"}, &out)
		require.NoError(t, err)
		require.NotEmpty(t, written)
	})
}
