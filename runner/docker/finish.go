package docker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// discardLimit is how long a run's result waits for an engine that is to remove
// the container.
const discardLimit = 10 * time.Second

// discard removes a container whose end is noted down, and ends what its benchmark left
// running. Sweep finds what stays.
func (f *follower) discard(ctx context.Context, id string) {
	ctx = context.WithoutCancel(ctx)
	if id != "" {
		limited, cancel := context.WithTimeout(ctx, discardLimit)
		defer cancel()
		if err := f.r.remove(limited, id); err != nil {
			f.r.log.Warn("a container that has ended stays", "container", id, "err", err)
		}
	}
	limited, cancel := context.WithTimeout(ctx, discardLimit+siblingGrace)
	defer cancel()
	if err := f.endEngines(limited); err != nil {
		f.r.log.Warn("engine containers of a benchmark that has ended may stay", "job", f.job.ID, "err", err)
	}
}

// errNotBegun is matched by the error of an outcome that says that no benchmark was
// begun.
var errNotBegun = errors.New("not begun")

// notBegun returns the error for a container that ended before a benchmark was begun
// in it. The image is there, so no other runner may have the job: it would measure
// another environment. If it was ended from outside, as by an engine that is being
// restarted, the job may be run again.
func (f *follower) notBegun(reason string, fromOutside bool) error {
	e := &runner.Error{
		Class: runner.ClassUnavailable,
		Text:  "the benchmark can't be started: " + reason,
		Fix:   "kitt-agent build",
		Err:   errNotBegun,
	}
	if fromOutside || !f.awayFrom.IsZero() {
		e.Class, e.Fix, e.Err = runner.ClassEngine, "", errors.Join(errNotBegun, runner.ErrNotReady)
	}
	return e
}

// finish notes down how the container ended and removes it.
func (f *follower) finish(ctx context.Context) (runner.Result, error) {
	e, err := f.source.outcome(ctx)
	if errors.Is(err, errNotBegun) {
		return f.begun(), f.undo(ctx, err)
	}
	if err != nil {
		return f.begun(), err
	}
	f.rec.End = e
	if e.Detail == "" && !e.OOM {
		e.Detail = f.whoStopped(e)
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

// result returns how the run ended by what was noted down.
func (f *follower) result() (runner.Result, error) {
	e := f.rec.End
	result := f.begun()
	result.Started, result.Ended, result.SeenGPUs = e.Started, e.Finished, e.SeenGPUs
	if e.Code == 0 {
		return result, f.outErr
	}
	exit := &runner.ExitError{Code: e.Code, OOMKilled: e.OOM, Detail: e.Detail, Signal: e.Signal}
	if e.Code > 128 && !f.rec.Supervised {
		exit.Signal = unix.SignalName(unix.Signal(e.Code - 128))
	}
	return result, exit
}

// begun returns what is known of a run that has not ended by itself.
func (f *follower) begun() runner.Result {
	return runner.Result{Runner: kind, ContainerID: f.id, Started: f.rec.At,
		Image: runner.Image{Name: f.rec.ImageName, ID: f.rec.Image, Digest: f.rec.ImageDigest}}
}

// exitUnknown is the status that an engine gives a container whose end it missed, as
// when the machine lost its power.
const exitUnknown = 255

// rebooted reports whether the machine was started since the run was begun.
func (f *follower) rebooted() bool { return f.rec.Boot != "" && f.rec.Boot != base.BootID() }

// whoStopped says why a container may have ended by a signal that was not ours.
func (f *follower) whoStopped(e *end) string {
	if sig := unix.Signal(e.Code - 128); sig != unix.SIGTERM && sig != unix.SIGKILL {
		return ""
	}
	if f.rebooted() {
		return "the machine was shut down or restarted while it ran"
	}
	// An engine ends its containers before it goes, and what it left when it comes
	// back.
	const near = 30 * time.Second
	if !f.awayFrom.IsZero() && e.Finished.After(f.awayFrom.Add(-near)) && e.Finished.Before(f.awayTo.Add(near)) {
		return "the Docker engine was restarted, which ends its containers unless its live-restore is on"
	}
	return "not by this agent: somebody else stopped its container, or the Docker engine was stopped"
}
