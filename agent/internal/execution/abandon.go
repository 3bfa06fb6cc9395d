package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// errAbandoned ends the benchmark of a job that cannot be followed.
var errAbandoned = errors.New("abandoned")

// abandon ends a job that cannot be continued, and the benchmark that an agent
// before this one may have left running. The job keeps its slot until the benchmark
// has certainly ended; if the agent stops before that, the next start continues.
func (x *execution) abandon(ctx context.Context, o jobs.Outcome) {
	if x.job.State() == jobs.StateRunning {
		if !x.endRun(ctx) {
			return
		}
		if since := x.job.Record().StartedAt; !since.IsZero() {
			x.cleanLeftovers(since, discard)
		}
		x.renewLease(ctx)
		x.record(ctx, true)
		x.judge(ctx, runner.Result{}, &o)
		x.releaseLease()
		x.recordOutcome(o)
	}
	x.finalize(x.job, x.jobLog, o)
}

// endRun ends the job's run, if there is one, and reports whether the job can end
// now. While the runner isn't sure that the run has ended it retries, until somebody
// cancels the job, or until the agent stops, which leaves it to the next start.
func (x *execution) endRun(ctx context.Context) bool {
	for {
		err := x.endRunOnce(ctx)
		if !errors.Is(err, runner.ErrStillRunning) {
			return true
		}
		x.log.Error("benchmark could not be ended, retrying; no other begins", "job", x.job.ID, "err", err)
		x.cfg.Notices.Warn(fmt.Sprintf("The benchmark of job %s could not be ended and may still be running. "+
			"No other begins until it has ended or the job is cancelled: kill it, then wait, or cancel the job", x.job.ID))
		if base.Wait(ctx, abandonRetry) != nil {
			return !errors.Is(context.Cause(ctx), runner.ErrDetach)
		}
	}
}

// endRunOnce asks the runner to end the job's run: first by what the runner keeps in
// the job's directory, then by the job's id, since those files may be what is
// damaged.
func (x *execution) endRunOnce(ctx context.Context) (err error) {
	defer x.catch(ctx, "runner", &err)
	ctx = context.WithoutCancel(ctx)
	if resumer, ok := runner.As[runner.Resumer](x.cfg.Runner); ok {
		ended, stop := context.WithCancelCause(ctx)
		stop(errAbandoned)
		_, err = resumer.Resume(ended, x.runnerJob(), 0, discard)
		if !errors.Is(err, runner.ErrNotStarted) && !errors.Is(err, runner.ErrLost) || errors.Is(err, runner.ErrStillRunning) {
			return err
		}
	}
	sweeper, ok := runner.As[runner.Sweeper](x.cfg.Runner)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.cfg.StopGrace+CleanTimeout)
	defer cancel()
	swept, sweepErr := sweeper.Sweep(ctx, func(id string) bool { return id != x.job.ID }, 0)
	if len(swept) > 0 {
		x.log.Warn("run of a job was found by its id and ended", "job", x.job.ID)
	}
	if sweepErr != nil {
		x.log.Warn("runs of the job are not looked for by its id", "job", x.job.ID, "err", sweepErr)
	}
	return err
}
