package simulated

import (
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

// BenchmarkRun is one run at speed 0, metrics.json on disk included.
func BenchmarkRun(b *testing.B) {
	for _, suite := range []string{"quick", "performance", "standard"} {
		b.Run(suite, func(b *testing.B) {
			r := mustNew(b, Config{})
			job := newJob(b, "a", "Llama-3.1-8B", suite)
			out := runner.NewOutput(io.Discard)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Run(b.Context(), job, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkManyRuns keeps 1,000 runs hanging in mid-run at once and reports
// what each of them holds, beside the goroutine that called Run.
func BenchmarkManyRuns(b *testing.B) {
	const runs = 1000
	for b.Loop() {
		before, goroutines := heap(), runtime.NumGoroutine()
		var atCrash, done sync.WaitGroup
		release := make(chan struct{})
		r := mustNew(b, Config{Scenario: Scenario{Crash: middle}, Crash: func(runner.Job) error {
			atCrash.Done()
			<-release
			return ErrCrash
		}})
		job := newJob(b, "a", "Llama-3.1-8B", "performance")
		atCrash.Add(runs)
		for range runs {
			done.Go(func() { r.Run(b.Context(), job, runner.NewOutput(io.Discard)) })
		}
		atCrash.Wait()
		b.ReportMetric(float64(heap()-before)/runs, "B/run")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/runs, "goroutines/run")
		close(release)
		done.Wait()
	}
}

// heap returns the bytes in use, stacks included.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// Many runs of one Runner at once don't disturb each other.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	r := mustNew(t, Config{Now: fixedClock})
	var wg sync.WaitGroup
	logs := make([]recording, 50)
	for i := range logs {
		job := newJob(t, "same", "8B", "quick")
		wg.Go(func() {
			if _, err := r.Run(t.Context(), job, &logs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, logs[0].pieces[:10], logs[49].pieces[:10])
}
