package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/gpusets"
	"github.com/kirizan/kitt-agent/runner"
)

const (
	// minResumeTime is the minimum time that a resumed run gets, though its time
	// limit has passed: it may have ended before that while no agent looked.
	minResumeTime = time.Minute

	// CleanTimeout is what a Cleaner gets beyond the grace of what it stops, and so
	// the longest that a stopped job takes beyond its grace.
	CleanTimeout = 30 * time.Second

	// abandonRetry is the time between attempts to end an abandoned benchmark.
	abandonRetry = 10 * time.Second
)

// benchmark runs the job to its end, or follows its run after a restart. A run that
// began nothing, because the runner was not ready, is made again.
func (x *execution) benchmark(ctx context.Context) {
	for {
		result, err := x.attempt(ctx)
		if !errors.Is(err, runner.ErrNotReady) {
			return
		}
		err = x.awaitAgain(ctx, err)
		if errors.Is(err, runner.ErrDetach) {
			return // the next start runs it
		}
		if err != nil {
			x.recordOutcome(x.outcome(ctx, result, err))
			return
		}
	}
}

// attempt runs the job once, and records its outcome unless the run is detached from
// or the error matches runner.ErrNotReady.
func (x *execution) attempt(ctx context.Context) (runner.Result, error) {
	started := x.job.Record().StartedAt
	if limit := x.cfg.MaxJobDuration; limit > 0 {
		end := started.Add(limit)
		if least := time.Now().Add(minResumeTime); x.resumed && end.Before(least) {
			end = least
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, end, errTimeLimit)
		defer cancel()
	}
	out := output{x.jobLog}
	result, err := x.runOrResume(ctx, out)
	_, resumes := runner.As[runner.Resumer](x.cfg.Runner)
	if errors.Is(context.Cause(ctx), runner.ErrDetach) {
		switch {
		case errors.Is(err, runner.ErrCannotResume), !resumes && isContextError(ctx, err):
			err = runner.ErrCannotResume
		case errors.Is(err, runner.ErrNotReady):
			return result, nil // the next start runs it
		case isContextError(ctx, err):
			return result, nil // the benchmark keeps running; the next start finds it
		}
	}
	if errors.Is(err, runner.ErrNotReady) && ctx.Err() == nil {
		x.discardRecording()
		return result, err
	}
	x.jobLog.EndLine() // before the agent's own words on how it ended
	ended := true
	if errors.Is(err, runner.ErrStillRunning) {
		x.log.Warn("benchmark was stopped and may still be running", "job", x.job.ID, "err", err)
		_ = out.WriteMessage(fmt.Sprintf("Warning: %v", err))
		var detached bool
		if ended, detached = x.awaitEnded(); detached {
			return result, nil // the next start ends it
		}
	}
	o := x.outcome(ctx, result, err)
	o.MayRun = !ended
	if errors.Is(err, runner.ErrUnavailable) {
		x.discardRecording() // there was nothing to run
	}
	x.judge(ctx, result, &o)
	if cutShort(o) {
		x.cleanLeftovers(started, out)
	}
	// While the log has not said which lines the disk refused, the job runs: after a
	// crash they are read again.
	_ = x.waitOut(context.WithoutCancel(ctx), "write its log", x.jobLog.Flush)
	if x.left && resumes {
		return result, nil
	}
	x.recordOutcome(o)
	return result, nil
}

// runOrResume runs the job, unless an agent before this one did. A run starts at
// most once: a started one is resumed or lost.
func (x *execution) runOrResume(ctx context.Context, out output) (result runner.Result, err error) {
	defer x.catch(ctx, "runner", &err)
	job := x.runnerJob()
	resumer, ok := runner.As[runner.Resumer](x.cfg.Runner)
	if !ok {
		var cancel func()
		ctx, cancel = runner.WithoutDetach(ctx)
		defer cancel()
	}
	if !x.resumed {
		x.record(ctx, false)
		result, err := x.cfg.Runner.Run(ctx, job, out)
		if !errors.Is(err, runner.ErrBegun) || !ok {
			return result, err
		}
		x.log.Warn("benchmark was begun before, though the job's record says otherwise; resuming it", "job", job.ID)
		out.log.Note("The benchmark was begun before; it is resumed")
		x.record(ctx, true)
		return resumer.Resume(ctx, job, runner.Position(out.log.Offset()), out)
	}
	x.record(ctx, true)
	if !ok {
		return runner.Result{}, &runner.Error{
			Class: runner.ClassLost,
			Text:  "the agent was stopped while the benchmark ran, and this kind of run cannot be continued",
			Err:   runner.ErrLost,
		}
	}
	result, err = resumer.Resume(ctx, job, runner.Position(out.log.Offset()), out)
	if errors.Is(err, runner.ErrNotStarted) {
		x.record(ctx, false)
		return x.cfg.Runner.Run(ctx, job, out)
	}
	return result, err
}

// runnerJob returns the job as its runner gets it.
func (x *execution) runnerJob() runner.Job {
	rec, spec := x.job.Record(), x.job.Command.Spec
	config := ""
	if rec.Config != "" {
		config = filepath.Join(x.job.ResultsDir(), rec.Config)
	}
	gpus := x.gpus()
	place := gpusets.Place(x.cfg.Identity().Machine, gpus)
	return runner.Job{
		ID:         x.job.ID,
		Dir:        x.job.Dir,
		ResultsDir: x.job.ResultsDir(),
		Model:      rec.ModelPath,
		ModelFiles: rec.ModelFiles,
		Engine:     spec.Engine,
		Suite:      spec.Suite,
		Mode:       cmp.Or(spec.Mode, rec.Mode),
		Config:     config,
		Image:      rec.Image,
		GPUs:       gpus,
		GPUFiles:   max(place.Files, min(len(gpus), 1)),
		GPUsOnly:   x.cfg.OwnGPUs && len(rec.GPUs) > 0,
		Host:       place.Host,
		StopGrace:  x.cfg.StopGrace,
	}
}

// gpus returns the GPUs that the job has, as its runner gets them: its own, or those of
// every benchmark.
func (x *execution) gpus() []string {
	if own := x.job.Record().GPUs; len(own) > 0 {
		return own
	}
	return x.cfg.GPUs()
}

// isContextError reports whether err is what a run returns because ctx ended, and
// not an end of its own at the same moment.
func isContextError(ctx context.Context, err error) bool {
	return err != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()))
}

// discard is an Output that keeps nothing.
var discard = runner.NewOutput(io.Discard)
