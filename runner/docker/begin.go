package docker

import (
	"context"

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
		err = writeRecord(f.job, f.rec)
	}
	if err != nil {
		return err
	}
	return f.start(ctx)
}

// start starts the container, unless an engine that went away before it answered has
// done so: a second start is not the run.
func (f *follower) start(ctx context.Context) error {
	return f.insist(ctx, func() error {
		begun, err := patiently(ctx, f.say, func() (bool, error) { return readClaimed(f.job) })
		if err != nil || begun {
			return err
		}
		return f.r.start(ctx, f.id)
	})
}

// insist calls do again and again until the engine answers it.
func (f *follower) insist(ctx context.Context, do func() error) error {
	var err error
	_, waitErr := f.await(ctx, func() (string, error) {
		if err = do(); noAnswer(err) {
			return "", err
		}
		return "", nil
	})
	if waitErr != nil {
		return waitErr
	}
	return err
}
