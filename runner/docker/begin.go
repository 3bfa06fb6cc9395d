package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// begin creates the job's container and starts it. An engine that goes away meanwhile
// is waited for, and asked again for what it has not done.
func (f *follower) begin(ctx context.Context, image string, p program.Program) error {
	err := f.insist(ctx, func() (err error) {
		// It finds the container that an engine made without answering.
		f.id, f.rec.Supervised, err = f.r.create(ctx, f.job, image, p)
		return err
	})
	f.rec.Container = f.id
	if !f.rec.Supervised {
		f.source = newEngineLog(f, 0)
	}
	if err == nil {
		_, err = patiently(ctx, f.say, func() (any, error) { return nil, writeRecord(f.job, f.rec) })
	}
	if err != nil {
		return err
	}
	return f.start(ctx)
}

// start starts the container, unless an engine that went away before it answered has
// done so: a second start is not the run. A container that the engine began to start and
// can't start any more is made again.
func (f *follower) start(ctx context.Context) error {
	return f.insist(ctx, func() error {
		begun, err := patiently(ctx, f.say, func() (bool, error) { return readClaimed(f.job) })
		if err != nil || begun {
			return err
		}
		if f.id == "" {
			if err := f.createAgain(ctx); err != nil {
				return err
			}
		}
		err = f.r.start(ctx, f.id)
		if halfStarted(err) && !claimed(f.job) {
			return errors.Join(err, f.abandon(ctx))
		}
		return err
	})
}

// abandon removes a container in which nothing was begun. That it is gone is noted down
// first: a start of this program in between makes another one.
func (f *follower) abandon(ctx context.Context) error {
	id := f.id
	f.id, f.rec.Container = "", ""
	if _, err := patiently(ctx, f.say, func() (any, error) { return nil, writeRecord(f.job, f.rec) }); err != nil {
		return err
	}
	return f.r.remove(ctx, id)
}

// createAgain makes the container that abandon has removed.
func (f *follower) createAgain(ctx context.Context) error {
	p, err := f.r.program.Find(ctx)
	if err != nil {
		return err
	}
	if f.id, f.rec.Supervised, err = f.r.create(ctx, f.job, f.rec.Image, p); err != nil {
		return err
	}
	f.rec.Container = f.id
	_, err = patiently(ctx, f.say, func() (any, error) { return nil, writeRecord(f.job, f.rec) })
	return err
}

// interruptedLimit is for how long it is tried again what the engine begins and fails to
// finish.
const interruptedLimit = 2 * time.Minute

// insist calls do again and again until the engine answers it. What the engine began
// and did not finish is tried again for interruptedLimit.
func (f *follower) insist(ctx context.Context, do func() error) error {
	var err error
	var since time.Time
	_, waitErr := f.await(ctx, func() (string, error) {
		err = do()
		switch answerOf(err) {
		case answered:
			return "", nil
		case noAnswer:
			since = time.Time{}
			return "", err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < interruptedLimit {
			return "", err
		}
		err = &runner.Error{
			Class: runner.ClassEngine,
			Text:  fmt.Sprintf("the Docker engine fails again and again: %v", err),
			Fix:   "sudo systemctl restart containerd docker; journalctl -u containerd -u docker says more",
			Err:   err,
		}
		return "", nil
	})
	if waitErr != nil {
		return waitErr
	}
	return err
}
