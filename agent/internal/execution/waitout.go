package execution

import (
	"context"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// waitOut calls do until its error is not the machine's, see [base.Transient], and
// returns what do returned last. Meanwhile status says that the job waits to do what.
// It returns the cause when ctx is done, and runner.ErrDetach when the agent stops:
// the job stays in its state then, for the next start.
func (x *execution) waitOut(ctx context.Context, what string, do func() error) error {
	err := do()
	if !base.Transient(err) {
		return err
	}
	warning := fmt.Sprintf("Job %s waits to %s: %v", x.job.ID, what, err)
	x.cfg.Notices.Warn(warning)
	defer x.cfg.Notices.Withdraw(warning)
	x.log.Warn("job waits for the disk or the machine; free what it lacks", "job", x.job.ID, "to", what, "err", err)
	for {
		pause := time.NewTimer(base.TransientPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-x.leaving:
			pause.Stop()
			x.left = true
			return runner.ErrDetach
		}
		if err := do(); !base.Transient(err) {
			x.log.Info("job no longer waits", "job", x.job.ID)
			return err
		}
	}
}

// openLog opens the job's log. One that cannot be opened is set aside if the job has
// only its end left: what is known of that is not lost with the log.
func (x *execution) openLog(ctx context.Context) (release func(), err error) {
	open := func() (err error) {
		x.jobLog, release, err = x.cfg.Logs.Open(x.job)
		return err
	}
	err = x.waitOut(ctx, "open its log", open)
	if err != nil && ctx.Err() == nil && !x.left && x.isFinishing() {
		x.log.Error("log cannot be opened, setting it aside", "job", x.job.ID, "err", err)
		x.job.SetLogAside()
		err = x.waitOut(ctx, "open its log", open)
	}
	return release, err
}
