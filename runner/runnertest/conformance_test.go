package runnertest_test

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

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// fakes returns a fake for each behaviour.
func fakes() byModel {
	lines := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("line %d", i))
		}
		return all
	}
	return byModel{
		runnertest.Quick.Model(): {Fake: runnertest.Fake{Lines: lines(10)}},
		runnertest.Slow.Model():  {Fake: runnertest.Fake{Lines: lines(50), Delay: 10 * time.Millisecond}},
		runnertest.Fails.Model(): {Fake: runnertest.Fake{Lines: lines(1), Err: &runner.ExitError{Code: 3}}},
		runnertest.Hangs.Model(): {Fake: runnertest.Fake{Lines: lines(1), Hangs: true}},
	}
}

// byModel is a runner that plays what the job's model names.
type byModel map[string]*runnertest.FakeResumer

func (m byModel) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	return m[job.Model].Run(ctx, job, out)
}

func (m byModel) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	return m[job.Model].Resume(ctx, job, from, out)
}

// jobs counts them, for IDs that no other has.
var jobs atomic.Int64

func newJob(b runnertest.Behaviour) (runner.Job, error) {
	return runner.Job{ID: fmt.Sprintf("job-%d", jobs.Add(1)), Model: b.Model(), StopGrace: time.Second}, nil
}

func TestFakeKeepsTheContract(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, runnertest.Test(t.Context(), fakes(), newJob))
	})
}

// plain hides that a runner can resume, and prints through a writer.
type plain struct{ runner.Runner }

func (p plain) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if err := out.WriteMessage("about to begin"); err != nil {
		return runner.Result{}, err
	}
	return p.Runner.Run(ctx, job, runner.NewOutput(runner.OutputWriter(out)))
}

func TestOneThatCannotResumeKeepsTheContract(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, runnertest.Test(t.Context(), plain{fakes()}, newJob))
	})
}

// counted wraps a runner and says so, as a metric does.
type counted struct {
	runner.Runner
	runs *atomic.Int64
}

func (c counted) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	c.runs.Add(1)
	return c.Runner.Run(ctx, job, out)
}

func (c counted) Unwrap() runner.Runner { return c.Runner }

func TestAWrappedRunnerKeepsTheContract(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		require.NoError(t, runnertest.Test(t.Context(), counted{counted{fakes(), &runs}, &runs}, newJob))
		require.Positive(t, runs.Load())
	})
}

// wrong changes what a good runner does.
type wrong struct {
	byModel
	run    func(context.Context, runner.Job, runner.Output) (runner.Result, error)
	resume func(context.Context, runner.Job, runner.Position, runner.Output) (runner.Result, error)
}

func (w wrong) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if w.run != nil {
		return w.run(ctx, job, out)
	}
	return w.byModel.Run(ctx, job, out)
}

func (w wrong) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if w.resume != nil {
		return w.resume(ctx, job, from, out)
	}
	return w.byModel.Resume(ctx, job, from, out)
}

// TestBreachesAreFound gives Test runners that break the contract, each in one
// way.
func TestBreachesAreFound(t *testing.T) {
	t.Parallel()
	good := fakes()
	for want, r := range map[string]wrong{
		"names no runner": {run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			result, err := good.Run(ctx, job, out)
			result.Runner = ""
			return result, err
		}},
		"exits with 3": {run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			result, err := good.Run(ctx, job, out)
			if _, ok := errors.AsType[*runner.ExitError](err); ok {
				err = errors.New("it failed")
			}
			return result, err
		}},
		"want the cause": {run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			result, err := good.Run(ctx, job, out)
			if ctx.Err() != nil && !errors.Is(err, runner.ErrDetach) {
				err = ctx.Err()
			}
			return result, err
		}},
		"stopping took": {run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			result, err := good.Run(ctx, job, out)
			if ctx.Err() != nil {
				<-time.After(10 * time.Second)
			}
			return result, err
		}},
		"want ErrNotStarted": {resume: func(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
			result, err := good.Resume(ctx, job, from, out)
			if errors.Is(err, runner.ErrNotStarted) {
				err = runner.ErrLost
			}
			return result, err
		}},
		"detached from three times: printed": {resume: func(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
			from = max(0, from-1)
			return good.Resume(ctx, job, from, out)
		}},
		"midst of a line": {resume: func(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
			if job.Model == runnertest.Hangs.Model() {
				from = 0
			}
			return good.Resume(ctx, job, from, out)
		}},
	} {
		t.Run(strings.ReplaceAll(want, " ", "_"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r.byModel = good
				require.ErrorContains(t, runnertest.Test(t.Context(), r, newJob), want)
			})
		})
	}
}
