package runner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// wrapped is a runner around another one, as a program writes it to count or
// trace runs.
type wrapped struct{ runner.Runner }

func (w wrapped) Unwrap() runner.Runner { return w.Runner }

// hidden is one that forgot Unwrap.
type hidden struct{ runner.Runner }

func TestAs(t *testing.T) {
	t.Parallel()
	inner := &runnertest.FakeResumer{}
	for name, r := range map[string]runner.Runner{
		"itself": inner, "once": wrapped{inner}, "twice": wrapped{wrapped{inner}}, "a pointer": &wrapped{inner},
	} {
		found, ok := runner.As[runner.Resumer](r)
		require.True(t, ok, name)
		require.Same(t, inner, found, name)
		_, ok = runner.As[runner.Cleaner](r)
		require.False(t, ok, name)
	}
	for name, r := range map[string]runner.Runner{
		"no runner": nil, "hidden": hidden{inner}, "hidden below": wrapped{hidden{inner}}, "wraps nothing": wrapped{}, "plain": &runnertest.Fake{},
	} {
		_, ok := runner.As[runner.Resumer](r)
		require.False(t, ok, name)
	}
}

// A wrapper that resumes itself is found before the runner that it wraps.
func TestAsFindsTheOutermost(t *testing.T) {
	t.Parallel()
	outer := &resuming{wrapped{&runnertest.FakeResumer{}}}
	found, ok := runner.As[runner.Resumer](wrapped{outer})
	require.True(t, ok)
	require.Same(t, outer, found)
}

type resuming struct{ wrapped }

func (r *resuming) Resume(context.Context, runner.Job, runner.Position, runner.Output) (runner.Result, error) {
	return runner.Result{}, runner.ErrNotStarted
}

// detachable is a runner whose benchmark stays when it is asked to detach.
type detachable struct {
	begun         func()
	left, stopped int
}

func (d *detachable) Run(ctx context.Context, _ runner.Job, _ runner.Output) (runner.Result, error) {
	d.begun()
	<-ctx.Done()
	if errors.Is(context.Cause(ctx), runner.ErrDetach) {
		d.left++
	} else {
		d.stopped++
	}
	return runner.Result{}, context.Cause(ctx)
}

func (d *detachable) Resume(ctx context.Context, job runner.Job, _ runner.Position, out runner.Output) (runner.Result, error) {
	return d.Run(ctx, job, out)
}

func TestFallbackDetachesOnlyWhatItCanResume(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		member        func(*detachable) runner.Runner
		left, stopped int
		want          error
	}{
		{"a resumer", func(d *detachable) runner.Runner { return d }, 1, 0, runner.ErrDetach},
		{"a wrapped one", func(d *detachable) runner.Runner { return wrapped{d} }, 1, 0, runner.ErrDetach},
		{"a hidden one", func(d *detachable) runner.Runner { return hidden{d} }, 0, 1, runner.ErrCannotResume},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			inner := detachable{begun: func() { cancel(runner.ErrDetach) }}
			_, err := runner.NewFallback(c.member(&inner)).Run(ctx, newJob(t), &runnertest.Recorder{})
			require.ErrorIs(t, err, c.want)
			require.Equal(t, []int{c.left, c.stopped}, []int{inner.left, inner.stopped})
		})
	}
}

func TestWithoutDetachPassesOtherCauses(t *testing.T) {
	t.Parallel()
	cause := errors.New("enough")
	outer, stop := context.WithCancelCause(t.Context())
	ctx, cancel := runner.WithoutDetach(outer)
	defer cancel()
	require.NoError(t, ctx.Err())
	stop(cause)
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), cause)

	ctx, cancel = runner.WithoutDetach(t.Context())
	cancel()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

// Positions follow each other without a gap, whoever writes at the same time.
func TestOutputWriter(t *testing.T) {
	t.Parallel()
	var out runnertest.Recorder
	w := runner.OutputWriter(&out)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 100 {
				fmt.Fprintf(w, "writer %d\n", i)
			}
		})
	}
	writers.Wait()
	require.Equal(t, runner.Position(800*len("writer 0\n")), out.Position())
	require.Len(t, strings.Split(out.Text(), "\n"), 801)
}

type failing struct{ runner.Output }

var errNoRoom = errors.New("no room")

func (failing) WriteOutput([]byte, time.Time, runner.Position) error { return errNoRoom }

func TestOutputWriterReturnsTheOutputsError(t *testing.T) {
	t.Parallel()
	n, err := runner.OutputWriter(failing{}).Write([]byte("text"))
	require.ErrorIs(t, err, errNoRoom)
	require.Zero(t, n)
}

func TestNewOutputEndsMessagesWithANewline(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	out := runner.NewOutput(&text)
	require.NoError(t, out.WriteMessage("one"))
	require.NoError(t, out.WriteMessage("two\nthree\n"))
	require.NoError(t, out.WriteOutput([]byte("benchmark"), time.Time{}, 0))
	require.Equal(t, "one\ntwo\nthree\nbenchmark", text.String())
}
