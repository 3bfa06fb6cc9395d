package harness_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A benchmarkFunc is a runner whose benchmark is a function. It prints to out
// and returns when it is done, or when ctx is.
type benchmarkFunc func(ctx context.Context, job runner.Job, out runner.Output) error

var _ runner.Runner = benchmarkFunc(nil)

func (f benchmarkFunc) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	result := runner.Result{Runner: "function", Started: time.Now()}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	err := f(ctx, job, out)
	if err == nil {
		err = runner.WriteReport(job, runner.Report{Tests: []runner.Test{{Name: "function"}}})
	}
	result.Ended = time.Now()
	return result, err
}

// The contract of a runner is code, which any runner can be held to.
func TestAFunctionIsARunner(t *testing.T) {
	t.Parallel()
	behaviours := map[string]runnertest.Behaviour{}
	for _, b := range []runnertest.Behaviour{runnertest.Quick, runnertest.Slow, runnertest.Fails, runnertest.Hangs} {
		behaviours[b.Model()] = b
	}
	benchmark := benchmarkFunc(func(ctx context.Context, job runner.Job, out runner.Output) error {
		b := behaviours[job.Model]
		lines := map[runnertest.Behaviour]int{runnertest.Quick: 10, runnertest.Slow: 50, runnertest.Fails: 1, runnertest.Hangs: 1}[b]
		stdout := runner.OutputWriter(out)
		for i := range lines {
			fmt.Fprintf(stdout, "line %d\n", i)
			if b == runnertest.Slow {
				<-time.After(time.Millisecond)
			}
		}
		switch b {
		case runnertest.Fails:
			return &runner.ExitError{Code: 3}
		case runnertest.Hangs:
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	})
	var jobs atomic.Int32
	require.NoError(t, runnertest.Test(t.Context(), benchmark, func(b runnertest.Behaviour) (runner.Job, error) {
		dir := t.TempDir()
		return runner.Job{ID: fmt.Sprintf("job-%d", jobs.Add(1)), Dir: dir, ResultsDir: dir, Model: b.Model(), StopGrace: time.Second}, nil
	}))
}
