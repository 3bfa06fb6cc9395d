package runnertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

// A Behaviour is how a benchmark of [Test] behaves. Each begins by printing
// `line 0`, `line 1` and so on.
type Behaviour int

// The behaviours.
const (
	Quick Behaviour = iota // prints ten lines and succeeds
	Slow                   // prints fifty, some milliseconds apart, and succeeds
	Fails                  // prints one and exits with the status 3
	Hangs                  // prints one and stays until it is stopped
)

// Model returns the model that makes the program of [BuildFakeKitt] behave so.
func (b Behaviour) Model() string {
	return [...]string{"fake:lines=10", "fake:lines=50,delay=10ms", "fake:lines=1,exit=3", "fake:lines=1,hang"}[b]
}

// lines returns what it prints.
func (b Behaviour) lines() string {
	var text strings.Builder
	for i := range [...]int{10, 50, 1, 1}[b] {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	return text.String()
}

// Test checks that r keeps the promises of [runner.Runner], and of
// [runner.Resumer] if it is one. It returns every breach that it finds, joined.
// newJob returns a new job, with a new ID and directories of its own, whose
// benchmark behaves as asked; it is called by several goroutines at once.
func Test(ctx context.Context, r runner.Runner, newJob func(Behaviour) (runner.Job, error)) error {
	ctx, cancel := context.WithTimeout(ctx, testLimit)
	defer cancel()
	t := &tester{r: r, newJob: newJob}
	t.succeeds(ctx)
	t.fails(ctx)
	t.together(ctx)
	t.stopped(ctx)
	t.stoppedBefore(ctx)
	if resumer, ok := runner.As[runner.Resumer](r); ok {
		t.neverBegun(ctx, resumer)
		t.letGo(ctx, resumer)
		t.resumedAndStopped(ctx, resumer)
		t.stoppedMeanwhile(ctx, resumer)
		t.resumedAnywhere(ctx, resumer)
	}
	return errors.Join(t.breaches...)
}

const (
	testLimit = 2 * time.Minute
	// promptly is within what a runner lets go, and by how much longer than the
	// grace it takes to stop a benchmark.
	promptly = 5 * time.Second
)

type tester struct {
	r      runner.Runner
	newJob func(Behaviour) (runner.Job, error)

	mu       sync.Mutex
	breaches []error
}

func (t *tester) breach(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.breaches = append(t.breaches, fmt.Errorf(format, args...))
}

func (t *tester) job(b Behaviour) (runner.Job, bool) {
	job, err := t.newJob(b)
	if err != nil {
		t.breach("make a job: %w", err)
	}
	return job, err == nil
}

// printed checks that the benchmark's output is whole and in order.
func (t *tester) printed(what string, out *Recorder, want string) {
	if got := out.Text(); got != want {
		t.breach("%s: printed %q, want %q", what, got, want)
	}
}

func (t *tester) ended(what string, result runner.Result) {
	if result.Runner == "" {
		t.breach("%s: the result names no runner", what)
	}
	if result.Started.IsZero() || result.Ended.Before(result.Started) {
		t.breach("%s: started %v, ended %v", what, result.Started, result.Ended)
	}
}

func (t *tester) succeeds(ctx context.Context) {
	job, ok := t.job(Quick)
	if !ok {
		return
	}
	var out Recorder
	result, err := t.r.Run(ctx, job, &out)
	if err != nil {
		t.breach("Run of a benchmark that succeeds: %w", err)
		return
	}
	t.printed("Run", &out, Quick.lines())
	t.ended("Run", result)
}

func (t *tester) fails(ctx context.Context) {
	job, ok := t.job(Fails)
	if !ok {
		return
	}
	var out Recorder
	result, err := t.r.Run(ctx, job, &out)
	exit, ok := errors.AsType[*runner.ExitError](err)
	if !ok || exit.Code != 3 || exit.Signal != "" || exit.OOMKilled {
		t.breach("Run of a benchmark that exits with 3: %v", err)
		return
	}
	if errors.Is(err, runner.ErrUnavailable) || errors.Is(err, runner.ErrLost) {
		t.breach("the error of a benchmark that exits with 3 says more than that: %v", err)
	}
	t.printed("Run of one that fails", &out, Fails.lines())
	t.ended("Run of one that fails", result)
}

func (t *tester) together(ctx context.Context) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { t.succeeds(ctx) })
	}
	all.Wait()
}

var errStopped = errors.New("stopped by runnertest")

// when returns a context that ends with the cause once out has text.
func when(ctx context.Context, out *Recorder, text string, cause error) (context.Context, context.CancelCauseFunc, *atomic.Int64) {
	ctx, cancel := context.WithCancelCause(ctx)
	var at atomic.Int64
	out.OnOutput(func() {
		if strings.Contains(out.Text(), text) && at.CompareAndSwap(0, time.Now().UnixNano()) {
			cancel(cause)
		}
	})
	return ctx, cancel, &at
}

// in checks that a run that was asked to end has done so in time.
func (t *tester) in(what string, at *atomic.Int64, limit time.Duration) {
	if asked := at.Load(); asked == 0 {
		t.breach("%s: nothing was printed before it", what)
	} else if took := time.Since(time.Unix(0, asked)); took > limit {
		t.breach("%s took %v", what, took)
	}
}

func (t *tester) stopped(ctx context.Context) {
	job, ok := t.job(Hangs)
	if !ok {
		return
	}
	var out Recorder
	ctx, cancel, at := when(ctx, &out, "line 0\n", errStopped)
	defer cancel(nil)
	_, err := t.r.Run(ctx, job, &out)
	if !errors.Is(err, errStopped) {
		t.breach("Run that is stopped: %v, want the cause", err)
	}
	t.in("stopping", at, job.Grace()+promptly)
}

func (t *tester) stoppedBefore(ctx context.Context) {
	job, ok := t.job(Hangs)
	if !ok {
		return
	}
	done, cancel := context.WithCancelCause(ctx)
	cancel(errStopped)
	var out Recorder
	if _, err := t.r.Run(done, job, &out); !errors.Is(err, errStopped) {
		t.breach("Run that was stopped before: %v, want the cause", err)
	}
	if out.Text() != "" {
		t.breach("Run that was stopped before printed %q", out.Text())
	}
	if resumer, ok := runner.As[runner.Resumer](t.r); ok {
		if _, err := resumer.Resume(ctx, job, 0, &out); !errors.Is(err, runner.ErrNotStarted) {
			t.breach("Resume of a job that was stopped before it began: %v, want ErrNotStarted", err)
		}
	}
}

func (t *tester) neverBegun(ctx context.Context, r runner.Resumer) {
	job, ok := t.job(Quick)
	if !ok {
		return
	}
	var out Recorder
	if _, err := r.Resume(ctx, job, 0, &out); !errors.Is(err, runner.ErrNotStarted) {
		t.breach("Resume of a job that was never run: %v, want ErrNotStarted", err)
	}
	if _, err := r.Run(ctx, job, &out); err != nil {
		t.breach("Run after such a Resume: %w", err)
	}
	t.printed("Run after such a Resume", &out, Quick.lines())
}

// letGo lets go of a run three times, and expects every line once and in order.
func (t *tester) letGo(ctx context.Context, r runner.Resumer) {
	job, ok := t.job(Slow)
	if !ok {
		return
	}
	var out Recorder
	follow := func(ctx context.Context) (runner.Result, error) { return r.Run(ctx, job, &out) }
	for n := 1; n <= 3; n++ {
		followCtx, cancel, at := when(ctx, &out, fmt.Sprintf("line %d\n", n*10), runner.ErrDetach)
		_, err := follow(followCtx)
		cancel(nil)
		if !errors.Is(err, runner.ErrDetach) {
			t.breach("a run that is detached from: %v, want ErrDetach", err)
			return
		}
		t.in("letting go", at, promptly)
		follow = func(ctx context.Context) (runner.Result, error) { return r.Resume(ctx, job, out.Position(), &out) }
	}
	out.OnOutput(nil)
	result, err := follow(ctx)
	if err != nil {
		t.breach("Resume of a run that succeeds: %w", err)
	}
	t.printed("a run that was detached from three times", &out, Slow.lines())
	t.ended("Resume", result)
}

func (t *tester) resumedAndStopped(ctx context.Context, r runner.Resumer) {
	job, ok := t.job(Hangs)
	if !ok {
		return
	}
	var first, second Recorder
	letGo, cancel, _ := when(ctx, &first, "line 0\n", runner.ErrDetach)
	_, err := r.Run(letGo, job, &first)
	cancel(nil)
	if !errors.Is(err, runner.ErrDetach) {
		t.breach("a run that is detached from: %v, want ErrDetach", err)
		return
	}
	stop, cancel, at := when(ctx, &second, "line 0\n", errStopped)
	defer cancel(nil)
	if _, err := r.Resume(stop, job, 0, &second); !errors.Is(err, errStopped) {
		t.breach("Resume that is stopped: %v, want the cause", err)
	}
	t.in("stopping a resumed run", at, job.Grace()+promptly)
}

// stoppedMeanwhile resumes a run that is to be stopped already, as after a crash
// in the midst of a stop.
func (t *tester) stoppedMeanwhile(ctx context.Context, r runner.Resumer) {
	job, ok := t.job(Hangs)
	if !ok {
		return
	}
	var out Recorder
	letGo, cancel, _ := when(ctx, &out, "line 0\n", runner.ErrDetach)
	_, err := r.Run(letGo, job, &out)
	cancel(nil)
	if !errors.Is(err, runner.ErrDetach) {
		t.breach("a run that is detached from: %v, want ErrDetach", err)
		return
	}
	stop, cancel := context.WithCancelCause(ctx)
	cancel(errStopped)
	if _, err := r.Resume(stop, job, out.Position(), &out); !errors.Is(err, errStopped) {
		t.breach("Resume of a run that is to be stopped already: %v, want the cause", err)
	}
	look, done := context.WithTimeoutCause(ctx, promptly, runner.ErrDetach)
	defer done()
	if _, err := r.Resume(look, job, out.Position(), &out); err == nil || errors.Is(err, runner.ErrDetach) {
		t.breach("Resume after a Resume that stopped the run: %v, want an error that says that it has ended", err)
	}
}

// resumedAnywhere goes on in the midst of a line, which the agent does after a
// crash.
func (t *tester) resumedAnywhere(ctx context.Context, r runner.Resumer) {
	job, ok := t.job(Hangs)
	if !ok {
		return
	}
	var out, rest Recorder
	letGo, cancel, _ := when(ctx, &out, "line 0\n", runner.ErrDetach)
	_, err := r.Run(letGo, job, &out)
	cancel(nil)
	if !errors.Is(err, runner.ErrDetach) {
		t.breach("a run that is detached from: %v, want ErrDetach", err)
		return
	}
	from := out.Position()
	from -= 3
	stop, cancel, _ := when(ctx, &rest, " 0\n", errStopped)
	defer cancel(nil)
	if _, err := r.Resume(stop, job, from, &rest); !errors.Is(err, errStopped) {
		t.breach("Resume that is stopped: %v, want the cause", err)
	}
	t.printed("Resume in the midst of a line", &rest, " 0\n")
}
