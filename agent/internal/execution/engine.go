package execution

import (
	"context"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/enginejobs"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/runner"
)

// Engines carries out engine commands, and keeps engines and benchmarks apart.
// [enginejobs.Jobs] does.
type Engines interface {
	// Do carries out the engine command of a job.
	Do(ctx context.Context, j *jobs.Job, acquire enginejobs.Acquire, from runner.Position, out runner.Output) error

	// MakeRoom returns once no engine holds the GPUs that a benchmark needs.
	MakeRoom(ctx context.Context, j *jobs.Job, out runner.Output, waiting func(error)) error

	// Ended is called after a job has ended.
	Ended(j *jobs.Job)
}

// makeRoom waits for the GPUs that native engines hold, or stops these.
func (x *execution) makeRoom(ctx context.Context) (err error) {
	defer x.catch(ctx, "engine manager", &err)
	defer x.unblock()
	return x.cfg.Engines.MakeRoom(ctx, x.job, output{x.jobLog}, x.block)
}

// doEngine carries out an engine command. After a restart it is called again, and the
// engine's manager goes on where it was.
func (x *execution) doEngine(ctx context.Context) {
	if x.job.Record().StartedAt.IsZero() { // the server is told that it runs, however soon it ends
		x.jobLog.Note(enginejobs.Leads(x.job.Command))
		if err := x.job.Update(func(rec *jobs.Record) { rec.StartedAt = time.Now() }); err != nil {
			x.log.Warn("state not written", "job", x.job.ID, "err", err)
		}
	}
	err := x.callEngines(ctx)
	if errors.Is(context.Cause(ctx), runner.ErrDetach) && isContextError(ctx, err) {
		return // the next start goes on with it
	}
	x.jobLog.EndLine()
	x.recordOutcome(x.outcome(ctx, runner.Result{}, err))
}

func (x *execution) callEngines(ctx context.Context) (err error) {
	defer x.catch(ctx, "engine manager", &err)
	return x.cfg.Engines.Do(ctx, x.job, x.fetchModel, runner.Position(x.jobLog.Offset()), output{x.jobLog})
}
