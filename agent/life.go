package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// Causes that end a job's turn, beside runner.ErrDetach.
var (
	errCancelled = errors.New("cancelled")
	errTimeLimit = errors.New("time limit reached")
)

// Classes of failure that are the agent's own.
const (
	classCancelled = "cancelled"
	classTimeLimit = "time-limit"
)

// leaseTimeout bounds how long a job that is already running, or has ended,
// waits for its claim on the model.
const leaseTimeout = 10 * time.Second

// resumeTime is the least time that a run gets which is gone on with, though its
// time limit has passed: it may have ended before that while no agent looked.
const resumeTime = time.Minute

// live takes j from the state that it is in through its life, one state after
// another, until it has ended or ctx is done. It is called once for a job, when
// its turn has come, and again after a restart.
//
// The cause of ctx says why a turn ends early: runner.ErrDetach leaves the job
// in its state for the next start, anything else ends it.
func (a *Agent) live(ctx context.Context, j *job) {
	log, release, err := a.useLog(j)
	if err == nil {
		defer a.releaseLog(j, release)
	}
	switch rec := j.snapshot(); {
	case rec.abandoned():
		a.abandon(ctx, j, log, *rec.Outcome)
		return
	case err != nil:
		a.abandon(ctx, j, nil, failure(fmt.Errorf("open the job's log: %w", err)))
		return
	}
	if j.resumed && !log.Finished() {
		log.Note("The agent was restarted; the benchmark goes on if it still runs")
	}
	var lease *storage.Lease
	for !j.state().Ended() {
		before := j.state()
		switch before {
		case StateAccepted:
			a.take(j, log)
		case StatePreparing:
			lease = a.prepare(ctx, j, log)
		case StateRunning:
			if lease == nil {
				lease = a.reclaim(ctx, j)
			}
			a.benchmark(ctx, j, log)
		case StateFinishing:
			if lease == nil {
				lease = a.reclaim(ctx, j)
			}
			a.finish(j, log, lease)
		}
		if errors.Is(context.Cause(ctx), runner.ErrDetach) && j.state() != StateFinishing {
			return // the next start goes on from here, and has the lease
		}
		if j.state() == before {
			a.log.Error("job is stuck; this is a bug", "job", j.id, "state", string(before))
			return
		}
	}
}

// take begins a job's turn.
func (a *Agent) take(j *job, log *logstream.Log) {
	if j.spec.Type == TypeRunTest {
		log.Note("Agent starting benchmark: " + j.spec.Benchmark)
		log.Note("Engine: " + j.spec.Engine)
		log.Note("Model: " + j.spec.Model)
	}
	if err := j.transition(StatePreparing, true, nil); err != nil {
		a.conclude(j, log, failure(err))
		return
	}
	a.beats.Nudge()
}

// prepare fetches what the job needs, and hands it on to its run. What is no
// benchmark is done here and ends.
func (a *Agent) prepare(ctx context.Context, j *job, log *logstream.Log) *storage.Lease {
	if j.spec.Type == TypeCleanupStorage {
		a.ended(j, a.cleanUp(ctx, j, log))
		return nil
	}
	notes := &noteWriter{log: log}
	defer notes.flush()
	lease, err := a.acquire(ctx, j, storage.Request{
		Model:    j.spec.Model,
		Holder:   j.holder(),
		Log:      notes,
		Progress: j.progress.set,
	})
	j.progress.clear()
	if err != nil {
		if !errors.Is(context.Cause(ctx), runner.ErrDetach) {
			a.conclude(j, log, a.outcome(ctx, j, runner.Result{}, fmt.Errorf("model %s: %w", j.spec.Model, err)))
		}
		return nil
	}
	// The intent is on disk before the runner hears of the job.
	err = j.transition(StateRunning, true, func(rec *record) {
		rec.StartedAt = time.Now()
		rec.ModelPath = lease.Path
		rec.ModelOrigin = lease.Origin
		rec.Image = a.settings.image()
	})
	if err != nil {
		a.release(j, lease)
		a.conclude(j, log, failure(err))
		return nil
	}
	return lease
}

// acquire asks the storage for a model.
func (a *Agent) acquire(ctx context.Context, j *job, req storage.Request) (lease *storage.Lease, err error) {
	defer a.catch(ctx, j, "storage", &err)
	lease, err = a.cfg.Storage.Acquire(ctx, req)
	if lease == nil && err == nil {
		err = errors.New("the storage gave neither a lease nor an error")
	}
	return lease, err
}

// catch makes a panic of what, which the program may have brought itself, an
// error of the one job: a job that ends the process would end the next one too,
// as soon as it is taken up again. It has to be deferred itself.
func (a *Agent) catch(ctx context.Context, j *job, what string, err *error) {
	if p := recover(); p != nil {
		a.log.ErrorContext(ctx, what+" panicked", "job", j.id, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("the %s panicked: %v", what, p)
	}
}

// reclaim renews a job's claim on its model after a restart. The benchmark has
// its model already, so a storage that cannot answer holds nothing up.
func (a *Agent) reclaim(ctx context.Context, j *job) *storage.Lease {
	rec := j.snapshot()
	if rec.ModelPath == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	lease, err := a.acquire(ctx, j, storage.Request{Model: rec.ModelPath, Holder: j.holder()})
	if err != nil {
		a.log.WarnContext(ctx, "claim on the model not renewed", "job", j.id, "model", rec.ModelPath, "err", err)
		return nil
	}
	return lease
}

// benchmark runs the job, or goes on with its run after a restart, to its end.
func (a *Agent) benchmark(ctx context.Context, j *job, log *logstream.Log) {
	rec := j.snapshot()
	if limit := a.cfg.MaxJobDuration; limit > 0 {
		var cancel context.CancelFunc
		end := rec.StartedAt.Add(limit)
		if least := time.Now().Add(resumeTime); j.resumed && end.Before(least) {
			end = least
		}
		ctx, cancel = context.WithDeadlineCause(ctx, end, errTimeLimit)
		defer cancel()
	}
	out := output{log}
	spec := a.runnerJob(j)
	result, err := a.runOrResume(ctx, j, spec, out)
	if errors.Is(context.Cause(ctx), runner.ErrDetach) {
		_, resumes := runner.As[runner.Resumer](a.cfg.Runner)
		switch {
		case errors.Is(err, runner.ErrCannotResume), !resumes && isContextError(ctx, err):
			err = runner.ErrCannotResume
		case isContextError(ctx, err):
			return // the benchmark runs on; the next start finds it
		}
	}
	a.warnIfRunning(j, err, out)
	outcome := a.outcome(ctx, j, result, err)
	if outcome.cutShort() {
		a.cleanBeside(j, spec, rec.StartedAt, out)
	}
	a.ended(j, outcome)
}

// runnerJob returns the job as its runner gets it.
func (a *Agent) runnerJob(j *job) runner.Job {
	rec := j.snapshot()
	return runner.Job{
		ID:         j.id,
		Dir:        j.dir,
		ResultsDir: j.resultsDir(),
		Model:      rec.ModelPath,
		Engine:     j.spec.Engine,
		Suite:      j.spec.Suite,
		Mode:       j.spec.Mode,
		Image:      rec.Image,
		GPUs:       a.gpus(),
		StopGrace:  a.cfg.StopGrace,
	}
}

// warnIfRunning says that a benchmark may have outlived its stop, which the
// outcome of the job doesn't.
func (a *Agent) warnIfRunning(j *job, err error, out runner.Output) {
	if !errors.Is(err, runner.ErrStillRunning) {
		return
	}
	a.log.Warn("benchmark was stopped and may still be running", "job", j.id, "err", err)
	_ = out.WriteMessage(fmt.Sprintf("Warning: %v", err))
}

// ended notes how the job's work ended. What is left is its report.
func (a *Agent) ended(j *job, outcome ending) {
	if err := j.transition(StateFinishing, false, func(rec *record) { rec.Outcome = &outcome }); err != nil {
		a.log.Error("state not written", "job", j.id, "err", err)
	}
}

// runOrResume runs the job, unless an agent before this one did. A run is begun
// at most once: what was begun is resumed or lost.
func (a *Agent) runOrResume(ctx context.Context, j *job, spec runner.Job, out output) (result runner.Result, err error) {
	defer a.catch(ctx, j, "runner", &err)
	resumer, ok := runner.As[runner.Resumer](a.cfg.Runner)
	if !ok {
		var cancel func()
		ctx, cancel = runner.WithoutDetach(ctx)
		defer cancel()
	}
	if !j.resumed {
		return a.cfg.Runner.Run(ctx, spec, out)
	}
	if !ok {
		return runner.Result{}, &runner.Error{
			Kind: runner.ClassLost,
			Text: "the agent was stopped while the benchmark ran, and this kind of run cannot be continued",
			Err:  runner.ErrLost,
		}
	}
	result, err = resumer.Resume(ctx, spec, runner.Position(out.log.Position()), out)
	if errors.Is(err, runner.ErrNotStarted) {
		return a.cfg.Runner.Run(ctx, spec, out)
	}
	return result, err
}

// cleanBeside ends what a benchmark that was cut short left running beside
// itself. While another benchmark runs nobody can tell whose it is.
func (a *Agent) cleanBeside(j *job, spec runner.Job, since time.Time, out runner.Output) {
	cleaner, ok := runner.As[runner.Cleaner](a.cfg.Runner)
	if !ok {
		return
	}
	if a.queue.others(j) {
		_ = out.WriteMessage("Other benchmarks are running: engine containers that this one may have left are not removed")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.StopGrace+cleanTimeout)
	defer cancel()
	clean := func() (err error) {
		defer a.catch(ctx, j, "runner", &err)
		return cleaner.Clean(ctx, spec, since, out)
	}
	if err := clean(); err != nil {
		a.log.Warn("what the benchmark left behind was not removed", "job", j.id, "err", err)
		_ = out.WriteMessage(fmt.Sprintf("What the benchmark left behind could not be removed: %v", err))
	}
}

// cleanTimeout is what a Cleaner gets beyond the grace of what it stops.
const cleanTimeout = 30 * time.Second

// finish makes the report of a job that ended, gives up its claim on the model
// and closes its log. It can be done again after a crash.
func (a *Agent) finish(j *job, log *logstream.Log, lease *storage.Lease) {
	outcome := *j.snapshot().Outcome
	var data map[string]any
	if outcome.State == StateCompleted && j.spec.Type == TypeRunTest {
		data = a.readMetrics(j, log)
	}
	if lease != nil {
		a.release(j, lease)
	}
	a.writeResult(j, outcome, data)
	a.conclude(j, log, outcome)
}

// releaseLog gives a job's log up. The last to do so after its delivery makes the
// job small.
func (a *Agent) releaseLog(j *job, release func() error) {
	if err := release(); err != nil {
		a.log.Warn("log not closed", "job", j.id, "err", err)
	}
	a.tidy(j)
}

func (a *Agent) release(j *job, lease *storage.Lease) {
	release := func() (err error) {
		defer a.catch(context.Background(), j, "storage", &err)
		return lease.Release()
	}
	if err := release(); err != nil {
		a.log.Warn("claim on the model not given up", "job", j.id, "model", lease.Path, "err", err)
	}
}

// concludeWaiting ends a job that never had its turn, with the reason in its
// log.
func (a *Agent) concludeWaiting(j *job, outcome ending) {
	log, release, err := a.useLog(j)
	if err != nil {
		a.log.Warn("log not opened", "job", j.id, "err", err)
		a.conclude(j, nil, outcome)
		return
	}
	defer a.releaseLog(j, release)
	a.conclude(j, log, outcome)
}

// conclude ends the job: the log gets its last lines, then the state is
// written, then everybody hears of it.
func (a *Agent) conclude(j *job, log *logstream.Log, outcome ending) {
	if log != nil {
		if outcome.Error != "" {
			log.Note(outcome.sentence())
		}
		log.Note(endNote(j.spec.Type, outcome.State))
		if err := log.Finish(outcome.final()); err != nil {
			a.log.Warn("end of the log not written", "job", j.id, "err", err)
		}
	}
	if !fileExists(j.path(resultFileName)) {
		a.writeResult(j, outcome, nil)
	}
	err := j.transition(outcome.State, false, func(rec *record) {
		rec.EndedAt = time.Now()
		rec.Outcome = &outcome
		if log != nil {
			rec.LogLines = log.Len()
		}
	})
	if err != nil {
		a.log.Error("state not written", "job", j.id, "err", err)
	}
	if a.cfg.Reporter == nil {
		j.done.Store(true) // there is no courier who would say so
	}
	attrs := []any{"job", j.id, "status", string(outcome.State), "took", time.Since(j.order.AcceptedAt).Round(time.Millisecond)}
	if outcome.Error != "" {
		attrs = append(attrs, "err", outcome.Error)
	}
	a.log.Info("job ended", attrs...)
}

func endNote(kind string, state State) string {
	what := "Benchmark"
	if kind == TypeCleanupStorage {
		what = "Cleanup"
	}
	return what + " " + string(state)
}

// outcome says how a job ended, from what its run or its preparation returned
// and from why its turn ended.
func (a *Agent) outcome(ctx context.Context, j *job, result runner.Result, err error) ending {
	base := ending{State: StateCompleted, Runner: result.Runner, ContainerID: result.ContainerID}
	if err == nil {
		return base // also when a cancel came a moment too late
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errCancelled):
		o := cancelledOutcome(j.cancelled())
		o.Runner, o.ContainerID = base.Runner, base.ContainerID
		return o
	case errors.Is(cause, errTimeLimit):
		err = &runner.Error{
			Kind:   classTimeLimit,
			Text:   fmt.Sprintf("stopped after max_job_duration of %s", a.cfg.MaxJobDuration),
			Remedy: "raise max_job_duration in agent.yaml if the benchmark needs longer",
		}
	}
	o := failure(err)
	o.Runner, o.ContainerID = base.Runner, base.ContainerID
	return o
}

// cancelledOutcome says that a job was stopped on request.
func cancelledOutcome(c *cancellation) ending {
	by := "user"
	if c != nil && c.By != "" {
		by = c.By
	}
	return ending{State: StateCancelled, Error: "Cancelled by " + by, Class: classCancelled, ExitCode: -1}
}

// failure says that a job failed because of err.
func failure(err error) ending {
	o := ending{State: StateFailed, Error: err.Error(), Class: "error", ExitCode: -1}
	var classed interface {
		error
		Class() string
		Fix() string
	}
	if errors.As(err, &classed) {
		o.Class, o.Fix = classed.Class(), classed.Fix()
	}
	if exit, ok := errors.AsType[*runner.ExitError](err); ok {
		o.ExitCode = exit.Code
	}
	return o
}

// cutShort reports whether the benchmark was ended from outside, so that it had
// no chance to put its engines away itself.
func (o ending) cutShort() bool {
	switch o.Class {
	case classCancelled, classTimeLimit, runner.ClassSignal, runner.ClassOOM, runner.ClassLost:
		return true
	}
	return false
}

// sentence returns the reason and what mends it, for a log.
func (o ending) sentence() string {
	text := "Error: " + o.Error
	if o.State == StateCancelled {
		text = o.Error
	}
	return text
}

// isContextError reports whether err is what a run returns because ctx ended,
// rather than an end of its own at the same moment.
func isContextError(ctx context.Context, err error) bool {
	return errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err())
}

// evict has the storage remove what a cleanup command names.
func (a *Agent) evict(ctx context.Context, j *job) (eviction storage.Eviction, err error) {
	defer a.catch(ctx, j, "storage", &err)
	return a.cfg.Storage.Evict(ctx, j.spec.Model)
}

// cleanUp does what a cleanup command asks for.
func (a *Agent) cleanUp(ctx context.Context, j *job, log *logstream.Log) ending {
	eviction, err := a.evict(ctx, j)
	for _, path := range eviction.Removed {
		log.Note("Removed " + printable(path))
	}
	for _, kept := range eviction.Kept {
		log.Note(fmt.Sprintf("Kept %s: %s", printable(kept.Path), kept.Reason))
	}
	if errors.Is(err, storage.ErrNotFound) {
		log.Note("There is no copy of " + printable(j.spec.Model) + " to remove")
		return a.outcome(ctx, j, runner.Result{}, nil)
	}
	if err != nil {
		return a.outcome(ctx, j, runner.Result{}, fmt.Errorf("cleanup: %w", err))
	}
	log.Note(fmt.Sprintf("%d removed, %.2f GiB freed, %d kept", len(eviction.Removed), float64(eviction.BytesFreed)/(1<<30), len(eviction.Kept)))
	return a.outcome(ctx, j, runner.Result{}, nil)
}
