package docker

import (
	"context"
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
