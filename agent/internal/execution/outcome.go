package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
)

// Classes of failure that are the agent's own.
const (
	classCancelled = "cancelled"
	classTimeLimit = "time-limit"
)

// outcome returns how a job ended, from what its run or its preparation returned and
// from the cause of ctx.
func (x *execution) outcome(ctx context.Context, result runner.Result, err error) jobs.Outcome {
	o := jobs.Outcome{State: jobs.StateCompleted} // also when a cancel came a moment too late
	cause := context.Cause(ctx)
	switch {
	case err == nil:
	case errors.Is(cause, ErrCancelled):
		o = Cancelled(x.job.Cancelled())
	case errors.Is(cause, errTimeLimit):
		o = Failed(&runner.Error{
			Class: classTimeLimit,
			Text:  fmt.Sprintf("stopped after max_job_duration of %s", x.cfg.MaxJobDuration),
			Fix:   "raise max_job_duration in agent.yaml if the benchmark needs longer",
		})
	default:
		o = Failed(err)
	}
	o.Runner, o.ContainerID, o.Image = result.Runner, result.ContainerID, jobs.Image(result.Image)
	o.SeenGPUs = result.SeenGPUs
	return o
}

// Cancelled is the outcome of a job that was stopped on request.
func Cancelled(c *jobs.Cancellation) jobs.Outcome {
	by := "user"
	if c != nil && c.By != "" {
		by = c.By
	}
	return jobs.Outcome{State: jobs.StateCancelled, Error: "Cancelled by " + by, Class: classCancelled, ExitCode: -1}
}

// Failed is the outcome of a job that failed because of err.
func Failed(err error) jobs.Outcome {
	class, fix := fault.Of(err)
	o := jobs.Outcome{State: jobs.StateFailed, Error: err.Error(), Class: cmp.Or(class, "error"), Fix: fix, ExitCode: -1}
	if exit, ok := errors.AsType[*runner.ExitError](err); ok {
		o.ExitCode = exit.Code
	}
	return o
}

// withoutSecrets returns o without secrets in its texts.
func (e *Executor) withoutSecrets(o jobs.Outcome) jobs.Outcome {
	o.Error, o.Fix = e.cfg.Secrets.Text(o.Error), e.cfg.Secrets.Text(o.Fix)
	return o
}

// cutShort reports whether the benchmark was ended from outside, so that it had no
// chance to stop its engines itself.
func cutShort(o jobs.Outcome) bool {
	switch o.Class {
	case classCancelled, classTimeLimit, runner.ClassSignal, runner.ClassOOM, runner.ClassLost:
		return true
	}
	return false
}

// logReason returns why the job ended, for its log; empty if it completed.
func logReason(o jobs.Outcome) string {
	if o.Error == "" || o.State == jobs.StateCancelled {
		return o.Error
	}
	return "Error: " + o.Error
}

// logEnding returns the last line of the job's log.
func logEnding(j *jobs.Job, o jobs.Outcome) string {
	what := "Command"
	switch j.Command.Type {
	case jobs.TypeRunTest:
		what = "Benchmark"
	case jobs.TypeCleanupStorage:
		what = "Cleanup"
	case jobs.TypeInstallEngine:
		what = "Installation of the engine"
	case jobs.TypeStartEngine:
		what = "Start of the engine"
	case jobs.TypeStopEngine:
		what = "Stop of the engine"
	}
	return what + " " + string(o.State)
}
