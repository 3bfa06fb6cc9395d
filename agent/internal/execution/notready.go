package execution

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

const (
	// readyPause is the time between questions whether the runner can start a job,
	// and the first pause after a run that was not ready; it doubles up to
	// maxReadyPause.
	readyPause    = time.Second
	maxReadyPause = 30 * time.Second

	// maxNotReady is how often a run may be not ready though the runner says that it
	// could start one, before the job fails.
	maxNotReady = 10
)

// awaitRunner returns nil once the runner can start a job, as far as it knows that.
// While it can't, the job keeps its slot, so that the queue waits behind it; status
// and the job's log say why. It returns the cause when ctx is done.
func (x *execution) awaitRunner(ctx context.Context) error {
	checker, ok := runner.As[runner.StartChecker](x.cfg.Runner)
	if !ok || x.job.Command.Spec.Mode == runner.ModeNative { // it needs no container engine
		return nil
	}
	defer x.unblock()
	for {
		err := x.checkStart(ctx, checker)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, runner.ErrNotReady) {
			return nil // Run says the rest
		}
		x.block(err)
		if err := base.Wait(ctx, readyPause); err != nil {
			return err
		}
	}
}

func (x *execution) checkStart(ctx context.Context, checker runner.StartChecker) (err error) {
	defer x.catch(ctx, "runner", &err)
	return checker.CheckStart(ctx)
}

// awaitAgain waits before the job, of which nothing was begun because of err, is run
// again. It returns the error that the job ends with, or the cause when ctx is done.
func (x *execution) awaitAgain(ctx context.Context, err error) error {
	if x.notReady++; x.notReady > maxNotReady {
		return err
	}
	x.block(err)
	defer x.unblock()
	pause := min(readyPause<<(x.notReady-1), maxReadyPause)
	if err := base.Wait(ctx, pause); err != nil {
		return err
	}
	if err := x.awaitRunner(ctx); err != nil {
		return err
	}
	// The limit on a job's duration is one on its benchmark's.
	if err := x.job.Update(func(rec *jobs.Record) { rec.StartedAt = time.Now() }); err != nil {
		x.log.Warn("state not written", "job", x.job.ID, "err", err)
	}
	return nil
}

// block says, once each, why the job can't start.
func (x *execution) block(reason error) {
	if x.blocked != "" {
		return
	}
	x.blocked = fmt.Sprintf("Job %s waits, and those after it: %v", x.job.ID, reason)
	x.cfg.Notices.Warn(x.blocked)
	x.cfg.Queue.block(x.job, reason.Error())
	x.log.Warn("job cannot start yet, waiting", "job", x.job.ID, "err", reason)
	if !x.told {
		x.told = true
		x.jobLog.Note("Waiting to start: " + reason.Error())
	}
	x.job.Notify()
	x.cfg.Nudge()
}

// unblock takes back what block said.
func (x *execution) unblock() {
	if x.blocked == "" {
		return
	}
	x.cfg.Notices.Withdraw(x.blocked)
	x.blocked = ""
	x.cfg.Queue.block(x.job, "")
	x.log.Info("job no longer waits", "job", x.job.ID)
	x.job.Notify()
	x.cfg.Nudge()
}
