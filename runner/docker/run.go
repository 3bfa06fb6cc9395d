package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
)

// Run runs job in a container of its own, follows it to its end and removes it.
func (r *Runner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if ctx.Err() != nil {
		return runner.Result{}, context.Cause(ctx)
	}
	if err := checkPaths(job); err != nil {
		return runner.Result{}, err
	}
	image, err := r.chooseImage(ctx, job, out)
	if err != nil {
		return runner.Result{}, because(ctx, err)
	}
	siblings, err := r.siblings(ctx)
	if err != nil {
		return runner.Result{}, because(ctx, err)
	}
	rec := record{Version: version, Job: job.ID, Image: image, At: time.Now().UTC(), Boot: base.BootID(), Kills: kernelKills()}
	for _, s := range siblings {
		rec.Siblings = append(rec.Siblings, s.ID)
	}
	// Before the container is created: a crash in between is found too.
	if err := writeRecord(job, rec); err != nil {
		return runner.Result{}, err
	}
	f := &follower{r: r, job: job, out: out, rec: rec}
	f.id, err = r.create(ctx, job, image)
	f.rec.Container = f.id
	if err == nil {
		err = writeRecord(job, f.rec)
	}
	if err == nil {
		err = r.start(ctx, f.id)
	}
	if err != nil {
		return f.begun(), f.undo(ctx, err)
	}
	return f.follow(ctx)
}

// Resume goes on with the container that was begun for job. One that was
// created and not started is started.
func (r *Runner) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if cause := context.Cause(ctx); errors.Is(cause, runner.ErrDetach) {
		return runner.Result{}, cause
	}
	rec, found, err := readRecord(job)
	f := &follower{
		r: r, job: job, out: out, rec: rec, id: rec.Container, cursor: cursor{pos: from},
		mayAppear: found && rec.Container == "",
	}
	if err != nil {
		err = lost("its file can't be read: " + err.Error())
		if e := f.end(); e != nil {
			err = fmt.Errorf("%w; %w", err, e)
		}
		return runner.Result{}, err
	}
	if !found {
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	}
	if rec.End != nil {
		// All that was left to be done is to remove it, which may have begun.
		f.discard(ctx, f.id)
		return f.result()
	}
	id, err := f.await(ctx, func() (string, error) { return r.find(ctx, job, rec.Container) })
	switch {
	case err != nil:
		return f.begun(), f.stopped(ctx, err)
	case id == "" && rec.Container == "":
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	case id == "":
		return runner.Result{}, lost("its container was removed")
	}
	f.id, f.rec.Container = id, id
	state, err := f.state(ctx)
	if rec.Container == "" && errors.Is(err, runner.ErrLost) {
		// Its ID is noted down before it is started, so it never was.
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	}
	if err != nil {
		return f.begun(), f.stopped(ctx, err)
	}
	if state.Status == container.StateCreated {
		if err = writeRecord(job, f.rec); err == nil {
			err = r.start(ctx, id)
		}
		if err != nil {
			return f.begun(), f.undo(ctx, err)
		}
	}
	return f.follow(ctx)
}

// because returns the cause of ctx's end, if it has ended, and beside it err if
// that is more than a consequence.
func because(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(err, cause), errors.Is(err, ctx.Err()):
		return cause
	}
	return fmt.Errorf("%w; %w", cause, err)
}

func lost(text string) error {
	return &runner.Error{Kind: runner.ClassLost, Text: "the benchmark is gone: " + text, Err: runner.ErrLost}
}

// A follower brings the log of one container to its Output and waits for the
// container's end.
type follower struct {
	r      *Runner
	job    runner.Job
	out    runner.Output
	rec    record
	id     string
	cursor cursor
	outErr error // the first error of out
	away   bool  // whether it was said that the engine does not answer

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

// maxUnread is after how many attempts the log of a container that has ended is
// given up.
const maxUnread = 10

// follow follows the container to its end, or until ctx is done.
func (f *follower) follow(ctx context.Context) (runner.Result, error) {
	err := f.toEnd(ctx)
	if err == nil {
		var result runner.Result
		if result, err = f.finish(ctx); ctx.Err() == nil || f.rec.End != nil {
			return result, err
		}
	}
	return f.begun(), f.stopped(ctx, err)
}

// stopped ends the container if ctx is done, unless the run is only let go of,
// and returns the cause. Otherwise it returns err.
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
// err with what went wrong at that. If the run is let go of, all stays: Resume
// finds the container, be it started or not, which undone could run twice.
func (f *follower) undo(ctx context.Context, err error) error {
	err = because(ctx, err)
	if errors.Is(context.Cause(ctx), runner.ErrDetach) {
		return err
	}
	e := f.end()
	if e == nil {
		if e = os.Remove(recordPath(f.job)); errors.Is(e, os.ErrNotExist) {
			e = nil
		}
	}
	if e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// toEnd returns nil when the container has ended and all of its log was passed
// on. An engine that goes away is waited for.
func (f *follower) toEnd(ctx context.Context) error {
	for unread := 0; ; {
		err := f.readWatched(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			f.r.log.Warn("following the log of a container was cut short", "container", f.id, "error", err)
		}
		// That the stream has ended doesn't say that the container has: the
		// engine may have been restarted, or have rotated the log.
		state, err := f.state(ctx)
		switch {
		case err != nil:
			return err
		case ended(state):
			// What was printed between the end of the stream and that of the
			// container.
			err := f.read(ctx, false)
			if err == nil {
				return nil
			}
			if unread++; unread == maxUnread && ctx.Err() == nil {
				f.say("the rest of the output is missing, the Docker engine can't read it: %v", err)
				return nil
			}
		}
		if err := base.Wait(ctx, retryPause); err != nil {
			return err
		}
	}
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

// readWatched follows the log. It ends that when the container has ended and
// the stream doesn't notice, and when the engine answers no more: a stream of
// an engine that hangs is silent for good.
func (f *follower) readWatched(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for silent := 0; silent < 2; {
			if base.Wait(ctx, lookPause) != nil {
				return
			}
			s, err := f.r.inspect(ctx, f.id)
			switch {
			case err == nil && ended(s), errdefs.IsNotFound(err):
				silent++
			case err != nil:
				silent = 2
			}
		}
		cancel()
	}()
	err := f.read(ctx, true)
	cancel()
	<-watched
	return err
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

// finish notes down how the container ended and removes it.
func (f *follower) finish(ctx context.Context) (runner.Result, error) {
	s, err := f.state(ctx)
	if err != nil {
		return f.begun(), err
	}
	oom := s.OOMKilled || f.rec.kernelKilled(s.ExitCode, kernelKills(), base.BootID())
	f.rec.End = &end{Code: s.ExitCode, OOM: oom, Detail: s.Error, Started: moment(s.StartedAt), Finished: moment(s.FinishedAt)}
	if f.rec.End.Finished.Before(f.rec.End.Started) {
		// The engine notes down a start after it has happened, and a very short
		// run's end before that.
		f.rec.End.Finished = f.rec.End.Started
	}
	if f.rec.End.Detail == "" && !oom {
		f.rec.End.Detail = f.whoStopped(f.rec.End)
	}
	if err := writeRecord(f.job, f.rec); err != nil {
		// The container stays, to tell it again. Sweep removes it later.
		f.r.log.Warn("how a container ended is not noted down", "container", f.id, "error", err)
		return f.result()
	}
	// A run whose end was noted down needs its container no more.
	f.discard(ctx, f.id)
	return f.result()
}

// discard removes a container whose end is noted down. Sweep finds one that
// stays.
func (f *follower) discard(ctx context.Context, id string) {
	if id == "" {
		return
	}
	if err := f.r.remove(context.WithoutCancel(ctx), id); err != nil {
		f.r.log.Warn("a container that has ended stays", "container", id, "error", err)
	}
}

// result returns how the run ended by what was noted down.
func (f *follower) result() (runner.Result, error) {
	e := f.rec.End
	result := f.begun()
	result.Started, result.Ended = e.Started, e.Finished
	if e.Code == 0 {
		return result, f.outErr
	}
	exit := &runner.ExitError{Code: e.Code, OOMKilled: e.OOM, Detail: e.Detail}
	if e.Code > 128 {
		exit.Signal = unix.SignalName(unix.Signal(e.Code - 128))
	}
	return result, exit
}

// begun returns what is known of a run that has not ended by itself.
func (f *follower) begun() runner.Result {
	return runner.Result{Runner: kind, ContainerID: f.id, Started: f.rec.At}
}

// whoStopped says why a container may have ended by a signal that was not ours.
func (f *follower) whoStopped(e *end) string {
	if sig := unix.Signal(e.Code - 128); sig != unix.SIGTERM && sig != unix.SIGKILL {
		return ""
	}
	// An engine ends its containers before it goes, and what it left when it comes
	// back.
	const near = 30 * time.Second
	if !f.awayFrom.IsZero() && e.Finished.After(f.awayFrom.Add(-near)) && e.Finished.Before(f.awayTo.Add(near)) {
		return "the Docker engine was restarted, which ends its containers unless its live-restore is on"
	}
	return "not by this agent: somebody else stopped its container, or the Docker engine was stopped"
}

// end ends the container, if need be again and again until the engine does it.
func (f *follower) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.job.Grace()+endLimit)
	defer cancel()
	for said := false; ; {
		err := f.endOnce(ctx)
		if err == nil {
			return nil
		}
		if !said {
			said = true
			f.say("the Docker engine fails to stop the benchmark, trying again: %v", err)
		}
		if base.Wait(ctx, retryPause) != nil {
			return fmt.Errorf("%w in the container %s: %w", runner.ErrStillRunning, cmp.Or(f.id, "of job "+f.job.ID), err)
		}
	}
}

// appeared returns the ID of the job's container, or an empty text. It gives the
// engine time for one that a program asked for just before it was killed.
func (f *follower) appeared(ctx context.Context) (string, error) {
	for {
		id, err := f.r.find(ctx, f.job, "")
		age := time.Since(f.rec.At)
		if err != nil || id != "" || !f.mayAppear || age < 0 || age > lateCreation {
			return id, err
		}
		if err := base.Wait(ctx, appearPause); err != nil {
			return "", err
		}
	}
}

// endOnce stops the container, passes its last words on and removes it.
func (f *follower) endOnce(ctx context.Context) error {
	if f.id == "" {
		// The engine may have created it after a program gave up waiting.
		id, err := f.appeared(ctx)
		if err != nil || id == "" {
			return err
		}
		f.id = id
	}
	// remove kills what could not be stopped.
	stopErr := f.r.stop(ctx, f.id, f.job.Grace())
	readCtx, cancel := context.WithTimeout(ctx, f.r.config.Timeout)
	defer cancel()
	readErr := f.read(readCtx, false)
	if err := f.r.remove(ctx, f.id); err != nil {
		return errors.Join(stopErr, err)
	}
	if readErr != nil && !errdefs.IsNotFound(readErr) {
		f.say("the last lines that the benchmark printed are missing, because it was stopped: %v", readErr)
	}
	return nil
}

// moment reads a time of the engine's.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
