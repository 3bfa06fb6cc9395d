package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// A source is where one container's output and outcome come from: the files of
// its supervisor, or the engine for a container of an older agent.
type source interface {
	// toEnd returns nil when the container has ended and all of its output was
	// passed on.
	toEnd(ctx context.Context) error

	// rest passes on what a container that was stopped had printed.
	rest(ctx context.Context) error

	// outcome returns how a container that has ended did so.
	outcome(ctx context.Context) (*end, error)

	close() error
}

// A follower brings the output of one container to its Output and waits for the
// container's end.
type follower struct {
	r      *Runner
	job    runner.Job
	out    runner.Output
	rec    record
	id     string
	source source // of the output and the outcome; nil until it is known which
	outErr error  // the first error of out
	away   bool   // whether it was said that the engine does not answer
	cutOff bool   // whether it was said that the socket proxy can't be started; restartProxy's alone

	// mayAppear says that an earlier program may have been killed while it waited
	// for the container, which the engine then makes a little later.
	mayAppear bool

	awayFrom, awayTo time.Time // the last time that the engine did not answer
}

// Pauses between attempts to reach an engine that does not answer, and between
// looks at the state of a container whose log is silent.
const (
	retryPause = time.Second
	lookPause  = 5 * time.Second
)

// lateCreation is for how long after a run's record was written the engine may
// still make the container of a program that was killed.
const lateCreation = 5 * time.Second

// endLimit is for how long beyond the grace it is tried to end a container when
// the engine fails at it.
const endLimit = 2 * time.Minute

// follow follows the container to its end, or until ctx is done.
func (f *follower) follow(ctx context.Context) (runner.Result, error) {
	release := f.keepProxy(ctx)
	err := f.source.toEnd(ctx)
	release()
	if err == nil {
		var result runner.Result
		if result, err = f.finish(ctx); ctx.Err() == nil || f.rec.End != nil {
			return result, err
		}
	}
	return f.begun(), f.stopped(ctx, err)
}

// stopped ends the container if ctx is done, unless the run is only detached
// from, and returns the cause. Otherwise it returns err.
func (f *follower) stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, runner.ErrDetach) {
		return cause
	}
	if err := f.end(); err != nil {
		return fmt.Errorf("%w; %w", cause, err)
	}
	return cause
}

// undo removes what there is of a run that could not be started, and returns
// err with what went wrong at that. If the run is detached from, all stays: Resume
// finds the container, be it started or not, which undone could run twice. The
// record of a benchmark that was begun after all stays too.
func (f *follower) undo(ctx context.Context, err error) error {
	err = base.JoinCause(ctx, err)
	if errors.Is(context.Cause(ctx), runner.ErrDetach) {
		return err
	}
	e := f.end()
	if e == nil && !claimed(f.job) {
		if e = os.Remove(recordPath(f.job)); errors.Is(e, os.ErrNotExist) {
			e = nil
		}
	}
	if e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// state returns the container's state as soon as the engine tells it.
func (f *follower) state(ctx context.Context) (state *container.State, err error) {
	gone := false
	_, err = f.await(ctx, func() (string, error) {
		state, err = f.r.inspect(ctx, f.id)
		if gone = errdefs.IsNotFound(err); gone {
			return "", nil
		}
		return "", err
	})
	if err == nil && gone {
		err = lost("its container was removed, and not by this agent")
	}
	return state, err
}

// await calls ask until the engine answers, and says when it doesn't and when
// it does again.
func (f *follower) await(ctx context.Context, ask func() (string, error)) (string, error) {
	for {
		answer, err := ask()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if err == nil {
			if f.away {
				f.away, f.awayTo = false, time.Now()
				f.say("the Docker engine answers again")
			}
			return answer, nil
		}
		if !f.away {
			f.away, f.awayFrom = true, time.Now()
			f.say("waiting for the Docker engine: %v", err)
		}
		if err := base.Wait(ctx, retryPause); err != nil {
			return "", err
		}
	}
}

// note keeps the first error of the job's log. A log that can't be written is
// no reason to end a benchmark.
func (f *follower) note(err error) {
	if err != nil {
		f.keep(fmt.Errorf("write to the job's log: %w", err))
	}
}

func (f *follower) keep(err error) {
	if f.outErr == nil {
		f.outErr = err
	}
}

// say writes a line of the runner's own.
func (f *follower) say(format string, args ...any) {
	f.note(f.out.WriteMessage(fmt.Sprintf(format, args...)))
}
