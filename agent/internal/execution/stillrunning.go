package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// awaitEnded returns once a benchmark that was stopped, and may still be running, has
// certainly ended: until then the job keeps its slot, so that no other shares the
// machine with it. It reports false for ended if the runner can't tell, and true for
// detached if the agent stops before that.
func (x *execution) awaitEnded() (ended, detached bool) {
	if _, ok := runner.As[runner.Resumer](x.cfg.Runner); !ok {
		return false, false
	}
	warning := fmt.Sprintf("The benchmark of job %s was stopped and may still be running. "+
		"No other begins until it has ended: kill it, or restart the machine if it can't be killed", x.job.ID)
	x.cfg.Notices.Warn(warning)
	defer x.cfg.Notices.Withdraw(warning)
	for {
		// What stopped it has no effect any more; the end of the agent has.
		ctx, stop := context.WithCancelCause(context.Background())
		x.cfg.Queue.rearm(x.job, stop)
		for context.Cause(ctx) == nil {
			if base.Wait(ctx, abandonRetry) != nil {
				break
			}
			if err := x.endRunOnce(ctx); !errors.Is(err, runner.ErrStillRunning) {
				stop(nil)
				x.jobLog.Note("The benchmark has ended")
				return true, false
			}
		}
		if errors.Is(context.Cause(ctx), runner.ErrDetach) {
			return false, true
		}
	}
}
