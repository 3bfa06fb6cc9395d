// Package execution takes one job from accepted to ended: it fetches the model, runs
// the benchmark and makes the result.
//
//	queue.go      which jobs wait and which hold a slot
//	execute.go    the job's states, one after another
//	prepare.go    the model and the lease on it
//	notready.go   waits for a runner that can't start jobs now
//	enginewatch.go  looks at the engine's port during the run
//	fit.go        waits for GPUs that others use, and looks at the engine's port
//	benchmark.go  the run: started, resumed, detached, stopped
//	leftovers.go  ends what a stopped benchmark left running
//	stillrunning.go  waits for the end of one that could not be stopped
//	abandon.go    ends the run of a job that cannot be continued
//	metrics.go    what the benchmark measured
//	remarks.go    what the program remarks on that
//	machine.go    whether the machine was fit to be measured
//	neighbours.go which other benchmarks ran at the same time
//	outcome.go    how the job ended
//	logs.go       the job's log, as runners and the storage write to it
//
// A job waits in the [Queue] until it holds a slot. The [Executor] then works through
// the table of jobs.State in one goroutine per job, and gives the slot back. This
// package knows neither the server nor the API.
package execution

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// Config says what an Executor needs. All fields but Reporter, MaxJobDuration and
// Integrity are required.
type Config struct {
	Runner   runner.Runner
	Storage  storage.Storage
	Reporter reporter.Reporter // asked for its rules about results

	MaxJobDuration time.Duration // 0 for no limit
	StopGrace      time.Duration // between the polite signal and the kill

	GPUs  func() []string // what a benchmark gets, as runner.Job names them
	Image func() string   // the container image in force; empty leaves it to the runner
	Nudge func()          // asks for a heartbeat now

	// OwnGPUs says that each benchmark has GPUs of its own, in its record, and may see
	// no others.
	OwnGPUs bool

	// Refusals returns a sentence for each setting of the server's that is not in
	// force, for the logs of jobs.
	Refusals func() []string

	Engines Engines // carries out engine commands

	// Profiles has the server's engine profiles; nil if it has none. ProfileKey says
	// whether one may have a key that is no plain setting.
	Profiles   profile.Finder
	ProfileKey func(key string) error

	// Identity returns what results say about the agent. It returns at once.
	Identity func() Identity

	// Remarks, if set, returns sentences on the result of the job in a directory.
	Remarks func(ctx context.Context, dir string) ([]string, error)

	// CopyAdvanced is called as the copy of a job's model advances. It returns at
	// once.
	CopyAdvanced func(*jobs.Job, storage.Progress)

	// Integrity says how the machine is watched during benchmarks.
	Integrity Integrity

	// CheckEnginePort has benchmarks refused while another process holds the port of
	// their engine.
	CheckEnginePort bool

	Queue   *Queue
	Logs    *Logs
	Notices *notices.Board
	Secrets logstream.Redactor // for how jobs ended and what they measured
	Logger  *slog.Logger
}

// An Executor takes jobs that hold a slot through their states, each in a goroutine
// of its own. Its methods are safe for concurrent use.
type Executor struct {
	cfg Config
	log *slog.Logger

	copies    sync.Map // *jobs.Job → storage.Progress, of models that are being copied
	leftovers *leftovers
	remarker  remarker
	running   sync.WaitGroup
	leaving   chan struct{} // closed when the agent stops
	leave     func()        // closes leaving; may be called more than once
}

// New returns an executor.
func New(cfg Config) *Executor {
	leaving := make(chan struct{})
	return &Executor{
		cfg: cfg, log: cfg.Logger, leftovers: newLeftovers(), remarker: remarker{ask: cfg.Remarks},
		leaving: leaving, leave: sync.OnceFunc(func() { close(leaving) }),
	}
}

// ErrCancelled is the cause that stops a job on request; see [Queue.Stop].
var ErrCancelled = errors.New("cancelled")

var errTimeLimit = errors.New("time limit reached")

// Start executes j, which holds a slot of the queue. The channel is closed when j has
// given the slot back.
func (e *Executor) Start(j *jobs.Job) (over <-chan struct{}) {
	ended := make(chan struct{})
	ctx, stop := context.WithCancelCause(context.Background())
	e.cfg.Queue.begin(j, stop)
	if j.Cancelled() != nil {
		stop(ErrCancelled)
	}
	e.running.Go(func() {
		defer close(ended)
		defer stop(nil)
		x := &execution{Executor: e, job: j, resumed: j.State() == jobs.StateRunning}
		x.execute(ctx)
		e.cfg.Queue.release(j)
		if j.State().Ended() {
			e.cfg.Engines.Ended(j)
		}
		j.Notify()
		e.cfg.Nudge()
	})
	return ended
}

// DetachAll detaches the running benchmarks, stops those that cannot be resumed, and
// waits for all executions.
func (e *Executor) DetachAll() {
	for _, j := range e.cfg.Queue.Active() {
		e.cfg.Queue.Stop(j, runner.ErrDetach)
	}
	e.leave()
	overdue := time.AfterFunc(e.cfg.StopGrace+CleanTimeout, func() {
		for _, j := range e.cfg.Queue.Active() {
			e.log.Warn("job ignores the stop, waiting for it", "job", j.ID, "state", string(j.State()))
		}
	})
	defer overdue.Stop()
	e.running.Wait()
}

// An execution is one job's time in its slot. The cause of its context says why it
// ends early: runner.ErrDetach leaves the job in its state for the next start,
// anything else ends the job.
type execution struct {
	*Executor
	job     *jobs.Job
	resumed bool // whether an agent before this one handed the job to a runner
	left    bool // whether the job is left in its state, for the next start

	jobLog *logstream.Log // nil if it cannot be opened
	lease  *storage.Lease // on the model; nil while there is none

	recording *integrity.Recording // of the machine; nil before the benchmark, and if nothing is recorded

	blocked string // what status says while the job can't start; else empty
	told    bool   // whether the job's log says that it waits

	wasWarm  string // which GPU was too warm at the last reading, see warm
	notReady int    // how often a run began nothing, see awaitAgain
}

// execute takes the job from the state that it is in through all others, until it
// has ended or ctx is done. It is called again after a restart.
func (x *execution) execute(ctx context.Context) {
	release, err := x.openLog(ctx)
	if err == nil {
		defer release()
	}
	switch rec := x.job.Record(); {
	case errors.Is(err, runner.ErrDetach):
		return
	case rec.Abandoned():
		x.abandon(ctx, *rec.Outcome)
		return
	case err != nil:
		x.abandon(ctx, x.outcome(ctx, runner.Result{}, fmt.Errorf("open the job's log: %w", err)))
		return
	}
	defer x.detachRecording()
	if x.resumed && !x.jobLog.Finished() {
		x.jobLog.Note("The agent was restarted; the benchmark continues if it still runs")
	}
	for !x.job.State().Ended() {
		before := x.job.State()
		switch before {
		case jobs.StateAccepted:
			x.startPreparing(ctx)
		case jobs.StatePreparing:
			x.prepare(ctx)
		case jobs.StateRunning:
			x.renewLease(ctx)
			x.benchmark(ctx)
		case jobs.StateFinishing:
			x.renewLease(ctx)
			x.finish(context.WithoutCancel(ctx))
		}
		after := x.job.State()
		if x.left || errors.Is(context.Cause(ctx), runner.ErrDetach) && after != jobs.StateFinishing {
			return // the next start continues from here, and has the lease
		}
		if after == before {
			x.log.Error("job is stuck; this is a bug", "job", x.job.ID, "state", string(before))
			return
		}
	}
}

// startPreparing takes the job out of accepted.
func (x *execution) startPreparing(ctx context.Context) {
	if spec := x.job.Command.Spec; x.job.IsBenchmark() {
		x.jobLog.Note("Agent starting benchmark: " + spec.Benchmark)
		x.jobLog.Note("Engine: " + spec.Engine)
		x.jobLog.Note("Model: " + spec.Model)
		if note := overridden(spec); note != "" {
			x.jobLog.Note(note)
		}
		for _, refusal := range x.cfg.Refusals() {
			x.jobLog.Note("The setting " + refusal)
		}
	}
	gpus := x.cfg.Queue.gpus(x.job)
	if len(gpus) > 0 {
		x.jobLog.Note("GPUs: " + strings.Join(gpus, ", "))
	}
	// Nothing starts before the disk has what the job holds: the next start has to know.
	if x.transition(ctx, jobs.StatePreparing, func(rec *jobs.Record) { rec.GPUs = gpus }) {
		x.cfg.Nudge()
	}
}

// overridden says that the suite runs something else than the benchmark that was named;
// empty if it doesn't.
func overridden(spec jobs.Spec) string {
	suite, known := runner.SuiteBenchmarks(spec.Suite)
	if len(suite) == 1 && suite[0] == spec.Benchmark {
		return ""
	}
	unknown := ""
	if !known {
		unknown = ", which kitt does not have,"
	}
	return fmt.Sprintf("The suite %s%s decides which benchmarks run: %s; benchmark_name %s has no effect",
		spec.Suite, unknown, strings.Join(suite, ", "), spec.Benchmark)
}

// transition makes a step that is on disk before anything is done about it, and
// reports whether it was made. If it wasn't, the job has ended, or is left for the
// next start.
func (x *execution) transition(ctx context.Context, to jobs.State, change func(*jobs.Record)) bool {
	err := x.waitOut(ctx, "write its state", func() error { return x.job.Transition(to, true, change) })
	if err != nil && !errors.Is(err, runner.ErrDetach) {
		x.releaseLease()
		x.finalize(x.job, x.jobLog, x.outcome(ctx, runner.Result{}, err))
	}
	return err == nil
}

func (x *execution) isFinishing() bool { return x.job.State() == jobs.StateFinishing }

// recordOutcome records how the job's work ended. What is left is its report.
func (x *execution) recordOutcome(o jobs.Outcome) {
	o = x.withoutSecrets(o)
	err := x.job.Transition(jobs.StateFinishing, false, func(rec *jobs.Record) {
		rec.Outcome = &o
		rec.Neighbours = partedFrom(rec.Neighbours, "", time.Now())
	})
	if err != nil {
		x.log.Error("state not written", "job", x.job.ID, "err", err)
	}
	x.part()
}

// finish makes the report of a job that ended, releases its lease on the model and
// ends its log. It can be repeated after a crash. While the disk refuses the report or
// the end of the log, the job stays in its state.
func (x *execution) finish(ctx context.Context) {
	o := *x.job.Record().Outcome
	var data map[string]any
	x.publish(ctx)
	if x.left {
		return
	}
	if (o.State == jobs.StateCompleted || o.Class == classMachine) && x.job.IsBenchmark() {
		if data = x.readMetrics(ctx); x.left {
			return
		}
	}
	x.releaseLease()
	if err := x.waitOut(ctx, "write its report", func() error { return x.saveResult(x.job, o, data) }); x.left {
		return
	} else if err != nil {
		x.log.Warn("report not written", "job", x.job.ID, "err", err)
	}
	if data != nil {
		x.remark(ctx)
	}
	end := func() error { return endLog(x.job, x.jobLog, x.withoutSecrets(o)) }
	if _ = x.waitOut(ctx, "end its log", end); !x.left { // finalize tries again, and says it
		x.finalize(x.job, x.jobLog, o)
	}
}

// saveResult writes the report of a job.
func (e *Executor) saveResult(j *jobs.Job, o jobs.Outcome, data map[string]any) error {
	_, checked := reporter.As[reporter.Checker](e.cfg.Reporter) // readMetrics had it check the data
	return outbox.SaveResult(j, o, data, checked)
}

// FinalizeWaiting ends a job that never held a slot, with the reason in its log.
func (e *Executor) FinalizeWaiting(j *jobs.Job, o jobs.Outcome) {
	log, release, err := e.cfg.Logs.Open(j)
	if err != nil {
		e.log.Warn("log not opened", "job", j.ID, "err", err)
		e.finalize(j, nil, o)
		return
	}
	defer release()
	e.finalize(j, log, o)
}

// finalize ends a job: the log gets its last lines, then the state is written, then
// all who wait hear of it. log may be nil.
func (e *Executor) finalize(j *jobs.Job, log *logstream.Log, o jobs.Outcome) {
	o = e.withoutSecrets(o)
	if log != nil {
		if err := endLog(j, log, o); err != nil {
			e.log.Warn("end of the log not written", "job", j.ID, "err", err)
		}
	}
	if !base.Exists(j.Path(jobs.ResultFile)) {
		// What the disk refuses is made from the job's record when it is sent.
		if err := e.saveResult(j, o, nil); err != nil {
			e.log.Warn("report not written", "job", j.ID, "err", err)
		}
	}
	err := j.Transition(o.State, false, func(rec *jobs.Record) {
		rec.EndedAt = time.Now()
		rec.Outcome = &o
		if log != nil {
			rec.LogLines, rec.LogRefused = log.Len(), log.Refused()
		}
	})
	if err != nil {
		e.log.Error("state not written", "job", j.ID, "err", err)
	}
	attrs := []any{"job", j.ID, "status", string(o.State), "took", time.Since(j.AcceptedAt).Round(time.Millisecond)}
	if o.Error != "" {
		attrs = append(attrs, "err", o.Error)
	}
	e.log.Info("job ended", attrs...)
}

// catch makes a panic of a part that the program brought, such as its runner, an
// error of this one job. A job that ends the process would end the next one too, as
// soon as it is resumed. Defer it directly.
func (x *execution) catch(ctx context.Context, part string, err *error) {
	if p := recover(); p != nil {
		x.log.ErrorContext(ctx, part+" panicked", "job", x.job.ID, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("the %s panicked: %v", part, p)
	}
}
