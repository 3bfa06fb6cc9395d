package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// Resume follows the container that was begun for job. One that was created and
// not started is started.
func (r *Runner) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	result, err := r.resume(ctx, job, from, out)
	if errors.Is(err, runner.ErrNotStarted) {
		if err := endProxy(ctx, job); err != nil {
			return result, fmt.Errorf("%w: %w", runner.ErrStillRunning, err)
		}
	}
	return result, err
}

func (r *Runner) resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if cause := context.Cause(ctx); errors.Is(cause, runner.ErrDetach) {
		return runner.Result{}, cause
	}
	f := &follower{r: r, job: job, out: out}
	var found bool
	rec, err := patiently(ctx, f.say, func() (rec record, err error) {
		rec, found, err = readRecord(job)
		return rec, err
	})
	f.rec, f.id, f.mayAppear = rec, rec.Container, found && rec.Container == ""
	switch {
	case base.Transient(err):
		return runner.Result{}, fmt.Errorf("%w: %w", runner.ErrStillRunning, base.JoinCause(ctx, err))
	case errors.Is(err, supervisor.ErrVersion):
		return f.leaveAlone(ctx, err)
	case err != nil:
		err = lost("its file can't be read: " + err.Error())
		if e := f.end(); e != nil {
			err = fmt.Errorf("%w; %w", err, e)
		}
		return runner.Result{}, err
	case !found:
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	case rec.End != nil:
		// All that was left to be done is to remove it, which may have begun. Output
		// that the job's log has not may be there all the same, since a disk was full.
		f.passUnread(ctx, from)
		f.discard(ctx, f.id)
		return f.result()
	}
	// An older agent may have written the record again, without the key.
	begun, err := patiently(ctx, f.say, func() (bool, error) { return readClaimed(job) })
	if err != nil {
		return f.begun(), fmt.Errorf("%w: %w", runner.ErrStillRunning, base.JoinCause(ctx, err))
	}
	f.rec.Supervised = rec.Supervised || begun
	if f.rec.Stopped {
		return f.begun(), lost("it was stopped by this agent")
	}
	if _, err := patiently(ctx, f.say, func() (any, error) { return nil, f.open(from) }); err != nil {
		return f.begun(), fmt.Errorf("%w: %w", runner.ErrStillRunning, base.JoinCause(ctx, err))
	}
	defer func() { f.source.close() }() // it may be another one by then
	f.restartProxy(ctx)
	if begun {
		// It was started, and its files say the rest, whatever the engine does.
		return f.follow(ctx)
	}
	return f.resumeContainer(ctx)
}

// passUnread passes on the output of a run that has ended, from byte from on.
func (f *follower) passUnread(ctx context.Context, from runner.Position) {
	if !f.rec.Supervised {
		return
	}
	files, err := patiently(ctx, f.say, func() (*runFiles, error) { return openRunFiles(f.job, f.out, int64(from)) })
	if err != nil {
		f.r.log.Warn("the rest of a run's output can't be read", "job", f.job.ID, "err", err)
		return
	}
	defer files.close()
	files.over.Store(true)
	if err := files.output.Pump(ctx, time.Time{}); err != nil {
		f.r.log.Warn("the rest of a run's output can't be read", "job", f.job.ID, "err", err)
	}
}

// open opens the source of a container that was begun before.
func (f *follower) open(from runner.Position) error {
	if !f.rec.Supervised {
		f.source = newEngineLog(f, from)
		return nil
	}
	files, err := openRunFiles(f.job, f.out, int64(from))
	if err != nil {
		return err
	}
	f.source, files.f = files, f
	return nil
}

// resumeContainer asks the engine for the container, starts one that was only
// created, and follows it.
func (f *follower) resumeContainer(ctx context.Context) (runner.Result, error) {
	known := f.rec.Container
	id, err := f.await(ctx, func() (string, error) { return f.r.find(ctx, f.job, known) })
	switch {
	case err != nil:
		return f.begun(), f.stopped(ctx, err)
	case id == "" && known == "":
		return runner.Result{}, fmt.Errorf("resume %s: %w", f.job.ID, runner.ErrNotStarted)
	case id == "":
		return runner.Result{}, lost("its container was removed")
	}
	f.id, f.rec.Container = id, id
	state, err := f.state(ctx)
	if known == "" && errors.Is(err, runner.ErrLost) {
		// Its ID is noted down before it is started, so it never was.
		return runner.Result{}, fmt.Errorf("resume %s: %w", f.job.ID, runner.ErrNotStarted)
	}
	if err != nil {
		return f.begun(), f.stopped(ctx, err)
	}
	if !f.rec.Supervised {
		// A record that an older agent wrote again doesn't say that it is.
		if f.rec.Supervised, err = f.r.supervised(ctx, id); err != nil {
			return f.begun(), f.stopped(ctx, err)
		}
		if f.rec.Supervised {
			if _, err := patiently(ctx, f.say, func() (any, error) { return nil, f.open(0) }); err != nil {
				return f.begun(), f.stopped(ctx, err)
			}
		}
	}
	if state.Status == container.StateCreated {
		f.rec.Boot, f.rec.Kills = base.BootID(), kernelKills()
		if _, err = patiently(ctx, f.say, func() (any, error) { return nil, writeRecord(f.job, f.rec) }); err == nil {
			err = f.start(ctx)
		}
		if err != nil {
			return f.begun(), f.undo(ctx, err)
		}
	}
	return f.follow(ctx)
}

// leaveAlone waits while there is a container whose record a newer agent has
// written, as after an update that was rolled back. That its version is not
// understood is no reason to end it, and how it ended can't be known. It is ended
// when ctx is, unless ctx says to detach.
func (f *follower) leaveAlone(ctx context.Context, reason error) (runner.Result, error) {
	for said := false; ; said = true {
		id, err := f.await(ctx, func() (string, error) { return f.r.find(ctx, f.job, "") })
		if err == nil && id == "" {
			return runner.Result{}, lost("its file can't be read: " + reason.Error())
		}
		if err == nil {
			f.id = id
			var state *container.State
			if state, err = f.state(ctx); err == nil && ended(state) {
				return f.begun(), lost("its file can't be read: " + reason.Error())
			}
		}
		if errors.Is(err, runner.ErrLost) {
			return f.begun(), err
		}
		if err == nil && !said {
			f.say("this benchmark was begun by a newer version of the agent, which can follow it; it goes on meanwhile")
		}
		if err := base.Wait(ctx, lookPause); err != nil {
			return f.begun(), f.stopped(ctx, err)
		}
	}
}

func lost(text string) error {
	return &runner.Error{Class: runner.ClassLost, Text: "the benchmark is gone: " + text, Err: runner.ErrLost}
}
