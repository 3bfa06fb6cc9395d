package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// end ends the container, if need be again and again until the engine does it.
func (f *follower) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.job.Grace()+endLimit)
	defer cancel()
	for said := false; ; {
		err := f.endOnce(ctx)
		if err == nil {
			f.noteStop()
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

// noteStop notes down that this agent ended the run, which the files of its
// supervisor don't tell.
func (f *follower) noteStop() {
	if f.rec.Version == 0 {
		return // there is no record, or none that can be read
	}
	f.rec.Stopped = true
	if err := writeRecord(f.job, f.rec); err != nil {
		f.r.log.Warn("that a run was stopped is not noted down", "job", f.job.ID, "err", err)
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

// endOnce stops the container, passes its last words on and removes it. Where the
// engine doesn't answer it ends the processes; Sweep removes the container later.
func (f *follower) endOnce(ctx context.Context) error {
	if !f.r.answers(ctx) && f.endWithoutEngine(ctx) == nil {
		f.passRest(ctx)
		return nil
	}
	if f.id == "" {
		// The engine may have created it after a program gave up waiting.
		id, err := f.appeared(ctx)
		if err != nil {
			return err
		}
		if id == "" {
			return f.endEngines(ctx)
		}
		f.id = id
	}
	stopErr := f.r.stop(ctx, f.id, f.job.Grace())
	if stopErr != nil && f.endWithoutEngine(ctx) == nil {
		f.passRest(ctx)
		f.discard(ctx, f.id)
		return nil
	}
	// It kills what could not be stopped.
	readErr := f.readRest(ctx)
	err := f.r.remove(ctx, f.id)
	if err == nil {
		err = f.requireEnded()
	}
	if err != nil && f.endWithoutEngine(ctx) != nil {
		return errors.Join(stopErr, err)
	}
	f.sayMissing(readErr)
	return f.endEngines(ctx)
}

// endEngines ends the containers that the benchmark started through its socket proxy.
func (f *follower) endEngines(ctx context.Context) error {
	if !hadProxy(f.job) {
		return nil
	}
	return f.r.endEngines(ctx, f.job, f.out)
}

// readRest passes on what the run had printed, as far as its source is known.
func (f *follower) readRest(ctx context.Context) error {
	if f.source == nil {
		return nil
	}
	return f.source.rest(ctx)
}

func (f *follower) passRest(ctx context.Context) { f.sayMissing(f.readRest(ctx)) }

// sayMissing says that the end of the output could not be read because of err, if it
// is an error.
func (f *follower) sayMissing(err error) {
	if err != nil && !errdefs.IsNotFound(err) {
		f.say("the last lines that the benchmark printed are missing, because it was stopped: %v", err)
	}
}
