package runner_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func unavailable(text string) error {
	return &runner.Error{Class: runner.ClassUnavailable, Text: text, Fix: "not this", Err: runner.ErrUnavailable}
}

func newJob(t *testing.T) runner.Job {
	return runner.Job{ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir()}
}

func TestFallbackTriesTheNext(t *testing.T) {
	t.Parallel()
	first := &runnertest.Fake{Err: unavailable("no engine here")}
	second := &runnertest.Fake{Lines: []string{"hello"}}
	third := &runnertest.Fake{}
	f := runner.NewFallback(first, runner.NewFallback(second, third))
	var out runnertest.Recorder
	job := newJob(t)

	result, err := f.Run(t.Context(), job, &out)
	require.NoError(t, err)
	require.Equal(t, "fake", result.Runner)
	require.Equal(t, "hello\n", out.Text())
	require.Equal(t, "no engine here; trying the next way to run it\n", out.Messages())
	require.Len(t, first.Jobs(), 1)
	require.Equal(t, []runner.Job{job}, second.Jobs())
	require.Empty(t, third.Jobs())
}

func TestFallbackWithNothingToRunWith(t *testing.T) {
	t.Parallel()
	f := runner.NewFallback(
		&runnertest.Fake{Err: unavailable("no engine here")},
		&runnertest.Fake{Err: unavailable("no kitt here")},
	)
	job := newJob(t)
	_, err := f.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, runner.ClassUnavailable, e.Class)
	require.Equal(t, "kitt-agent build", e.Fix)
	require.Equal(t, "there is nothing to run the benchmark with: no engine here; no kitt here", e.Text)

	_, err = f.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted, "nothing was started")
}

func TestFallbackStopsAtAFailedRun(t *testing.T) {
	t.Parallel()
	second := &runnertest.Fake{}
	f := runner.NewFallback(&runnertest.Fake{Err: &runner.ExitError{Code: 1}}, second)
	_, err := f.Run(t.Context(), newJob(t), &runnertest.Recorder{})
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Empty(t, second.Jobs())
}

func TestFallbackStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	only := &runnertest.Fake{}
	_, err := runner.NewFallback(only).Run(ctx, newJob(t), &runnertest.Recorder{})
	require.ErrorIs(t, err, cause)
	require.Empty(t, only.Jobs())
}

// TestFallbackStopsInTheMidstOfAChoice ends the context while the last runner
// finds out whether it can run the job.
func TestFallbackStopsInTheMidstOfAChoice(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	last := choosing{func() error { cancel(runner.ErrDetach); return unavailable("no engine here") }}
	f := runner.NewFallback(last)
	job := newJob(t)
	var out runnertest.Recorder
	_, err := f.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	require.NotErrorIs(t, err, runner.ErrUnavailable)
	require.Empty(t, out.Messages())
	_, err = f.Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

// choosing is a Runner that has nothing to run a job with.
type choosing struct{ why func() error }

func (c choosing) Run(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return runner.Result{}, c.why()
}

func TestFallbackResume(t *testing.T) {
	t.Parallel()
	resumer := func(begun ...string) runner.Runner {
		return &runnertest.FakeResumer{Fake: runnertest.Fake{Lines: []string{"one", "two"}}, Begun: begun}
	}
	broken := &runnertest.FakeResumer{ResumeErr: runner.ErrLost}
	plain := &runnertest.Fake{}
	for _, c := range []struct {
		name    string
		members []runner.Runner
		file    string
		want    error
		text    string
	}{
		{name: "the one that began it", members: []runner.Runner{plain, resumer(), resumer("job-1")}, text: "two\n"},
		{name: "nobody", members: []runner.Runner{resumer(), plain}, want: runner.ErrNotStarted},
		{name: "the first answer counts", members: []runner.Runner{broken, resumer("job-1")}, want: runner.ErrLost},
		{
			name: "the one noted down is asked first", members: []runner.Runner{broken, resumer("job-1")},
			file: `{"version":1,"member":1,"resumable":true}`, text: "two\n",
		},
		{
			name: "given to one that can't", members: []runner.Runner{resumer(), plain},
			file: `{"version":1,"member":1,"resumable":false}`, want: runner.ErrLost,
		},
		{
			name: "given to one that can and didn't", members: []runner.Runner{resumer(), plain},
			file: `{"version":1,"member":0,"resumable":true}`, want: runner.ErrNotStarted,
		},
		{
			name: "given to one that is no more", members: []runner.Runner{resumer()},
			file: `{"version":1,"member":1,"resumable":true}`, want: runner.ErrLost,
		},
		{name: "unreadable", members: []runner.Runner{resumer()}, file: `{`, want: runner.ErrLost},
		{name: "from a later version", members: []runner.Runner{resumer()}, file: `{"version":2}`, want: runner.ErrLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			job := newJob(t)
			if c.file != "" {
				require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "fallback.json"), []byte(c.file), 0o600))
			}
			var out runnertest.Recorder
			_, err := runner.NewFallback(c.members...).Resume(t.Context(), job, runner.Position(4), &out)
			require.ErrorIs(t, err, c.want)
			require.Equal(t, c.text, out.Text())
		})
	}
}

// began is a Resumer of a type of its own, so that it is told from others.
type began struct{ runnertest.FakeResumer }

// TestFallbackAfterAChangeOfConfiguration resumes a job with other runners than
// those that it was given to.
func TestFallbackAfterAChangeOfConfiguration(t *testing.T) {
	t.Parallel()
	job := newJob(t)
	ctx, letGo := context.WithCancelCause(t.Context())
	docker := &began{runnertest.FakeResumer{Fake: runnertest.Fake{Lines: []string{"one"}, Hangs: true}}}
	var out runnertest.Recorder
	out.OnOutput(func() { letGo(runner.ErrDetach) })
	_, err := runner.NewFallback(docker).Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)

	local := &runnertest.FakeResumer{}
	_, err = runner.NewFallback(local).Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrLost, "it was begun")

	docker.Hangs = false
	var again runnertest.Recorder
	f := runner.NewFallback(local).Former(docker)
	_, err = f.Resume(t.Context(), job, 0, &again)
	require.NoError(t, err)
	require.Equal(t, "one\n", again.Text())

	other := newJob(t)
	other.ID = "job-2"
	_, err = f.Resume(t.Context(), other, 0, &again)
	require.ErrorIs(t, err, runner.ErrNotStarted)
	_, err = f.Run(t.Context(), other, &again)
	require.NoError(t, err)
	require.Len(t, local.Jobs(), 1)
	require.Len(t, docker.Jobs(), 1, "it gets no new jobs")
}

// dying is a Runner that looks at the job's directory as a crash would leave it.
type dying struct{ look func(runner.Job) }

func (d dying) Run(_ context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
	d.look(job)
	return runner.Result{}, nil
}

func TestFallbackNeverRunsTwiceWhatCannotResume(t *testing.T) {
	t.Parallel()
	var f *runner.Fallback
	var during error
	f = runner.NewFallback(dying{func(job runner.Job) {
		_, during = f.Resume(context.Background(), job, 0, &runnertest.Recorder{})
	}})
	_, err := f.Run(t.Context(), newJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
	require.ErrorIs(t, during, runner.ErrLost)
}

type keeper struct {
	runnertest.Fake
	ids []string
	err error
}

func (k *keeper) Clean(_ context.Context, _ runner.Job, _ time.Time, out runner.Output) error {
	return errors.Join(out.WriteMessage("cleaned"), k.err)
}

func (k *keeper) Sweep(context.Context, func(string) bool, time.Duration) ([]string, error) {
	return k.ids, k.err
}

func TestFallbackCleansAndSweepsWithAll(t *testing.T) {
	t.Parallel()
	wrong := errors.New("wrong")
	f := runner.NewFallback(&keeper{ids: []string{"a"}, err: wrong}, &runnertest.Fake{}, &keeper{ids: []string{"b"}})
	var out runnertest.Recorder
	require.ErrorIs(t, f.Clean(t.Context(), newJob(t), time.Now(), &out), wrong)
	require.Equal(t, "cleaned\ncleaned\n", out.Messages())
	ids, err := f.Sweep(t.Context(), func(string) bool { return false }, time.Minute)
	require.ErrorIs(t, err, wrong)
	require.Equal(t, []string{"a", "b"}, ids)
}

func ExampleNewFallback() {
	dir, err := os.MkdirTemp("", "job")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	docker := &runnertest.Fake{Err: unavailable("no image kitt:latest")}
	local := &runnertest.Fake{Lines: []string{"12.5 tokens per second"}}

	out := runner.NewOutput(os.Stdout)
	result, err := runner.NewFallback(docker, local).Run(context.Background(), runner.Job{ID: "a", Dir: dir}, out)
	fmt.Println(result.Runner, err)
	// Output:
	// no image kitt:latest; trying the next way to run it
	// 12.5 tokens per second
	// fake <nil>
}

// knowing is a runner that knows whether it can run a job.
type knowing struct {
	runner.Runner
	err error
}

func (k knowing) Check() error { return k.err }

func TestFallbackChecksItsMembers(t *testing.T) {
	t.Parallel()
	cant := knowing{err: errors.New("no program")}
	require.NoError(t, runner.NewFallback(cant, &runnertest.Fake{}).Check(), "one that doesn't know may run it")
	require.NoError(t, runner.NewFallback(cant, knowing{}).Check())
	require.Equal(t, cant.err, runner.NewFallback(cant).Check())
	require.ErrorIs(t, runner.NewFallback(cant, cant).Check(), cant.err)
}

// startable is a Fake that says whether it can start a job.
type startable struct {
	runnertest.Fake
	err error
}

func (s *startable) CheckStart(context.Context) error { return s.err }

func TestFallbackDoesNotReplaceARunnerThatIsNotReady(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("no answer: %w", runner.ErrNotReady)
	second := &runnertest.FakeResumer{}
	f := runner.NewFallback(&runnertest.Fake{Err: away}, second)
	job := newJob(t)
	var out runnertest.Recorder
	_, err := f.Run(t.Context(), job, &out)
	require.Equal(t, away, err)
	require.Empty(t, second.Jobs())
	require.Empty(t, out.Messages())
	_, err = f.Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrNotStarted, "it may be run again")
}

func TestFallbackCheckStart(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("no answer: %w", runner.ErrNotReady)
	plain, well := &runnertest.Fake{}, &startable{}
	waits, none := &startable{err: away}, &startable{err: unavailable("no engine here")}
	for _, c := range []struct {
		name    string
		members []runner.Runner
		want    error
	}{
		{"the first is ready", []runner.Runner{well, waits}, nil},
		{"the first is not ready", []runner.Runner{waits, well}, away},
		{"the first never is", []runner.Runner{none, waits}, away},
		{"the first can't tell", []runner.Runner{plain, waits}, nil},
		{"nobody has anything", []runner.Runner{none}, nil},
	} {
		require.Equal(t, c.want, runner.NewFallback(c.members...).CheckStart(t.Context()), c.name)
	}
}

// checking is a runner that knows which jobs it can't run.
type checking struct {
	runnertest.Fake
	err error
}

func (c *checking) CheckJob(runner.Job) error { return c.err }

func TestFallbackKnowsWhichJobsNobodyCanRun(t *testing.T) {
	t.Parallel()
	native := runner.Job{Mode: runner.ModeNative}
	containers, local := &checking{err: unavailable("no native engine here")}, &checking{err: unavailable("no kitt here")}
	f := runner.NewFallback(containers, local)
	e, ok := errors.AsType[*runner.Error](f.CheckJob(native))
	require.True(t, ok)
	require.ErrorIs(t, e, runner.ErrUnavailable)
	require.Equal(t, "there is nothing to run the benchmark with: no native engine here; no kitt here", e.Text)
	require.Equal(t, "install it, or choose engine_mode docker", e.Fix)

	local.err = nil
	require.NoError(t, f.CheckJob(native))
	require.Equal(t, unavailable("no native engine here"), runner.NewFallback(containers).CheckJob(native))
	require.NoError(t, runner.NewFallback(containers, &runnertest.Fake{}).CheckJob(native), "who can't tell may be able to")
}
