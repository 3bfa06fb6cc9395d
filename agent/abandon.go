package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
)

// errAbandoned is why the benchmark of a job is ended that nobody can follow.
var errAbandoned = errors.New("abandoned")

// endAgain is the time between attempts to end a benchmark.
const endAgain = 10 * time.Second

// abandon ends a job that cannot be continued, and the benchmark that an agent
// before this one may have left running. log may be nil. The job keeps its turn
// until the benchmark has certainly ended; if the agent stops before that, the
// next start continues.
func (a *Agent) abandon(ctx context.Context, j *job, log *logstream.Log, outcome ending) {
	if j.state() == StateRunning {
		if !a.endRun(ctx, j) {
			return
		}
		if since := j.snapshot().StartedAt; !since.IsZero() {
			a.cleanBeside(j, a.runnerJob(j), since, runner.NewOutput(io.Discard))
		}
		if lease := a.reclaim(ctx, j); lease != nil {
			a.release(j, lease)
		}
		a.ended(j, outcome)
	}
	a.conclude(j, log, outcome)
}

// endRun ends the run of j, if there is one, and reports whether the job can end
// now. While the runner isn't sure that the run has ended it tries again, until
// somebody cancels the job, or until ctx lets go of the job, which leaves it to
// the next start.
func (a *Agent) endRun(ctx context.Context, j *job) bool {
	for {
		err := a.endRunOnce(ctx, j)
		if !errors.Is(err, runner.ErrStillRunning) {
			return true
		}
		a.log.Error("benchmark could not be ended, trying again; no other begins", "job", j.id, "err", err)
		a.warn(fmt.Sprintf("The benchmark of job %s could not be ended and may still be running. "+
			"No other begins until it has ended or the job is cancelled: kill it, then wait, or cancel the job", j.id))
		timer := time.NewTimer(endAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return !errors.Is(context.Cause(ctx), runner.ErrDetach)
		}
	}
}

// endRunOnce asks the runner to end the run of j: first by what the runner keeps
// in the job's directory, then by the job's id, since those files may be what is
// damaged.
func (a *Agent) endRunOnce(ctx context.Context, j *job) (err error) {
	defer a.catch(ctx, j, "runner", &err)
	ctx = context.WithoutCancel(ctx)
	if resumer, ok := runner.As[runner.Resumer](a.cfg.Runner); ok {
		ended, stop := context.WithCancelCause(ctx)
		stop(errAbandoned)
		_, err = resumer.Resume(ended, a.runnerJob(j), runner.Position{}, runner.NewOutput(io.Discard))
		if !errors.Is(err, runner.ErrNotStarted) && !errors.Is(err, runner.ErrLost) || errors.Is(err, runner.ErrStillRunning) {
			return err
		}
	}
	sweeper, ok := runner.As[runner.Sweeper](a.cfg.Runner)
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.StopGrace+cleanTimeout)
	defer cancel()
	swept, sweepErr := sweeper.Sweep(ctx, func(id string) bool { return id != j.id }, 0)
	if len(swept) > 0 {
		a.log.Warn("run of a job was found by its id and ended", "job", j.id)
	}
	if sweepErr != nil {
		a.log.Warn("runs of the job are not looked for by its id", "job", j.id, "err", sweepErr)
	}
	return err
}
