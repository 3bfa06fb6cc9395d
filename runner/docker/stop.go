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
	var readErr error
	if f.source != nil {
		readErr = f.source.rest(ctx)
	}
	if err := f.r.remove(ctx, f.id); err != nil {
		return errors.Join(stopErr, err)
	}
	if readErr != nil && !errdefs.IsNotFound(readErr) {
		f.say("the last lines that the benchmark printed are missing, because it was stopped: %v", readErr)
	}
	return nil
}
