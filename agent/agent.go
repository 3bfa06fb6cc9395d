package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/kirizan/kitt-agent/agent/internal/enginejobs"
	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/gpusets"
	"github.com/kirizan/kitt-agent/agent/internal/hostmonitor"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// An Agent takes benchmark jobs and runs them. Its methods are safe for
// concurrent use.
type Agent struct {
	cfg        Config
	secrets    logstream.Redactor
	notices    *notices.Board
	settings   *settings
	memory     *memory // set by Run before anything else runs
	duplicates *duplicates
	token      *callerToken
	host       *hostmonitor.Monitor
	registry   *registry
	sets       *gpusets.Allocator // nil if each benchmark has all GPUs
	queue      *execution.Queue
	outbox     *outbox.Outbox
	logs       *execution.Logs

	intake     *intake
	receiver   *receiver
	executor   *execution.Executor
	engines    *enginejobs.Jobs
	reconciler *reconciler
	maintainer *maintainer
	beats      *heartbeat.Loop

	started      atomic.Pointer[time.Time] // when Run was called; nil before
	ready        chan struct{}             // closed once Run accepts commands
	examined     chan struct{}             // closed once it is known whether another agent uses the name
	stopWhenIdle atomic.Bool
	scheduling   watchdog
	audit        *auditor
	looking      atomic.Bool // whether a directory that the server chose is being looked at
	events       eventHub
	page         http.Handler // of Config.Page; nil without one. set once in New
}

// New returns an agent that does nothing until Run is called. It reports all
// that is wrong with cfg at once.
func New(cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	settings, settingsErr := newSettings(cfg.Settings, cfg.AllowedImages)
	if c, ok := storage.As[storage.Configurer](cfg.Storage); ok {
		settings.adopt(c.Settings())
	}
	cfg.Policy = fillPolicy(cfg.Policy, cfg.Dir, settings.texts())
	settings.limit(cfg.Policy)
	secrets := logstream.NewRedactor(cfg.Secrets)
	cfg.Logger = slog.New(secrets.Handler(cfg.Logger.Handler()))
	var a *Agent
	recorder, recorderErr := cfg.Integrity.recorder(cfg.Logger, func(s integrity.Sample) { a.host.Sampled(s.Time, s.GPUs) })
	if err := errors.Join(cfg.validate(), settingsErr, recorderErr); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a = &Agent{
		cfg: cfg, secrets: secrets, settings: settings, token: &callerToken{now: cfg.Token, readAgain: cfg.ReadToken}, ready: make(chan struct{}),
		audit:   &auditor{write: cfg.Audit, secrets: secrets},
		notices: &notices.Board{Secrets: secrets}, registry: newRegistry(), examined: make(chan struct{}),
		host: hostmonitor.New(hostmonitor.Config{
			Detector: cfg.Detector, Usage: cfg.Storage.Usage, Engines: cfg.Engines.Detect, Warnings: cfg.Warnings, Logger: cfg.Logger,
			Problems: cfg.Problems, Start: cfg.checkStart(), Free: cfg.freeBytes,
		}),
	}
	var err error
	if a.sets, err = gpusets.New(cfg.GPUSets, a.host.Description); err != nil {
		return nil, fmt.Errorf("agent: GPUSets: %w", err)
	}
	queue := execution.QueueConfig{Slots: cfg.MaxConcurrentJobs, Exclusive: cfg.Exclusive, OnePort: cfg.CheckEnginePort}
	if a.sets != nil {
		queue.GPUs = a.sets
	}
	a.queue = execution.NewQueue(queue)
	a.beats, err = heartbeat.New(heartbeat.Config{
		Client:   beatClient{a},
		Name:     cfg.Name,
		Compose:  a.beat,
		Handle:   a.answered,
		Interval: settings.interval(),
		Logger:   cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.duplicates = newDuplicates(a.cfg, a.notices)
	a.compose(recorder)
	if limits := cfg.limits(); len(limits) > 0 {
		a.cfg.Logger.Info("not everything can be promised with these parts", "limits", limits)
	}
	if cfg.Page != nil {
		a.page = cfg.Page(a)
	}
	return a, nil
}

// compose makes the parts that do the agent's work, each from those before it.
func (a *Agent) compose(recorder *integrity.Recorder) {
	a.logs = &execution.Logs{Secrets: a.cfg.Secrets, Logger: a.cfg.Logger, Released: a.tidy}
	a.outbox = outbox.New(outbox.Config{
		Reporter:   a.cfg.Reporter,
		AgentName:  a.cfg.Name,
		AgentID:    a.agentID,
		Reachable:  func() bool { return a.beats.State().FailingFor == 0 },
		Reregister: a.beats.Nudge,
		Heartbeat:  a.beats.Nudge,
		OpenLog:    a.logs.Open,
		Stopped:    a.stoppedOnServer,
		Delivered:  a.delivered,
		Notices:    a.notices,
		Logger:     a.cfg.Logger,
	})
	a.maintainer = newMaintainer(a.cfg, a.registry, a.outbox, a.notices)
	a.engines = enginejobs.New(enginejobs.Config{
		Manager: a.cfg.Engines, Storage: a.cfg.Storage, Policy: a.cfg.Policy, Dir: a.cfg.Dir, Live: a.registry.isLive,
		Conflict: a.cfg.OnConflict, Submit: a.submitRestart,
		Changed: func(ctx context.Context) { a.host.Engines(ctx) },
		Notices: a.notices, Logger: a.cfg.Logger,
	})
	profiles, _ := a.cfg.Server.(profile.Finder)
	a.executor = execution.New(execution.Config{
		Engines: a.engines, Profiles: profiles, ProfileKey: a.cfg.Policy.CheckProfileKey,
		Runner: a.cfg.Runner, Storage: a.cfg.Storage, Reporter: a.cfg.Reporter,
		MaxJobDuration: a.cfg.MaxJobDuration, StopGrace: a.cfg.StopGrace,
		GPUs: a.gpus, OwnGPUs: a.sets != nil, Image: a.settings.image, Refusals: a.settings.refusals, Nudge: a.beats.Nudge, CopyAdvanced: a.events.copyAdvanced,
		Remarks: a.cfg.Remarks, Identity: a.identity, CheckEnginePort: a.cfg.CheckEnginePort,
		Integrity: execution.Integrity{
			Recorder: recorder, FailInvalid: a.cfg.Integrity.FailInvalid,
			WaitIdle: a.cfg.Integrity.WaitIdle, WaitCool: a.cfg.Integrity.WaitCool, WaitCoolLimit: a.cfg.Integrity.WaitCoolLimit,
		},
		Queue: a.queue, Logs: a.logs, Notices: a.notices, Secrets: a.secrets, Logger: a.cfg.Logger,
	})
	a.maintainer.retryClean = a.executor.RetryClean
	a.reconciler = newReconciler(a.cfg, a.registry, a.queue, a.notices)
	a.intake = &intake{
		log: a.cfg.Logger, audit: a.audit, registry: a.registry, queue: a.queue, outbox: a.outbox, executor: a.executor, engines: a.engines, events: &a.events,
		lost: a.reconciler.lookUpSoon, refused: a.nudgeIfIdle,
	}
	a.intake.checker, _ = runner.As[runner.Checker](a.cfg.Runner)
	a.receiver = &receiver{
		log: a.cfg.Logger, notices: a.notices, queue: a.queue, accept: a.intake.receive, later: a.reconciler.lookUpIn,
	}
	a.reconciler.receive, a.reconciler.stopped, a.reconciler.two = a.receiver.receive, a.stoppedOnServer, a.duplicates.two
	a.reconciler.repeat = a.intake.repeat
	a.maintainer.two = a.duplicates.two
}

// tidy makes a delivered job small once nobody reads its log.
func (a *Agent) tidy(j *jobs.Job) { a.maintainer.tidy(j) }

// delivered is called when the outbox has done what it can for j.
func (a *Agent) delivered(j *jobs.Job) {
	if a.outbox.Delivered(j) {
		a.events.jobEvent(EventDelivered, j)
	}
	a.tidy(j)
	a.beats.NudgeIn(campaignBeats[:]...)
}

// campaignBeats is when heartbeats follow a job's end. A campaign looks at its test
// every 5 s, and queues the next one then.
var campaignBeats = [...]time.Duration{5500 * time.Millisecond, 11 * time.Second}

// nudgeIfIdle asks for a heartbeat now, as the start of a job does: of several commands
// that are refused, each brings the next.
func (a *Agent) nudgeIfIdle() {
	if a.queue.Idle() {
		a.beats.Nudge()
	}
}

// Heartbeat sends a heartbeat to the server now, and returns its outcome: nil once the
// server has accepted it. Its commands are accepted soon after. It waits until ctx is
// done. The error matches [ErrNotAccepting] while Run isn't running.
func (a *Agent) Heartbeat(ctx context.Context) error {
	err := a.beats.Beat(ctx)
	if errors.Is(err, heartbeat.ErrNotRunning) {
		return ErrNotAccepting
	}
	return err
}

// identity returns what results say about the agent.
func (a *Agent) identity() execution.Identity {
	return execution.Identity{Name: a.cfg.Name, ID: a.beats.State().AgentID, Version: a.cfg.Version, Machine: a.host.Description()}
}

// agentID returns the server's id for the agent, or its name before there is one.
func (a *Agent) agentID() string { return cmp.Or(a.beats.State().AgentID, a.cfg.Name) }

// ErrInUse is matched by the error of Run if another agent uses the same Dir.
var ErrInUse = errors.New("another agent uses this directory")

// Run runs the agent until ctx is done, or until Drain or CancelAll ends it, and
// everything that it started has stopped, then returns nil. Benchmarks that
// their runner can resume keep running. A Runner, Storage or Server that doesn't
// return when its context ends keeps Run from returning.
//
// An error means that the agent could not begin, such as [ErrInUse], or that its
// API could not be served. Run closes Config.Listener in any case. It can be
// called once: to start again, make another Agent.
func (a *Agent) Run(ctx context.Context) error {
	now := time.Now()
	if !a.started.CompareAndSwap(nil, &now) {
		return errors.New("agent: Run was called before")
	}
	if a.cfg.Listener != nil {
		defer a.cfg.Listener.Close()
	}
	store, unlock, err := openStore(a.cfg.Dir, a.events.stateChanged)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer unlock()
	a.registry.open(store)
	defer a.registry.close()
	a.memory = openMemory(a.cfg.Dir, a.cfg.Logger)
	a.settings.restore(a.memory.get().Settings)
	a.applySettings()
	found := a.duplicates.examine(ctx)
	if found == uncertain && !a.duplicates.remembers() {
		found = alone // what is here is this agent's; only what is at the server may be another's
		a.reconciler.holdOff(watchFor)
	}
	var recovered []*jobs.Job
	if found == alone {
		if recovered, err = a.recoverJobs(store); err != nil {
			return fmt.Errorf("agent: read jobs: %w", err)
		}
	}
	if found != uncertain {
		close(a.examined)
	}
	return a.run(ctx, store, found, recovered)
}

// watchEngines looks after native engines once it is known which jobs there are.
func (a *Agent) watchEngines(ctx context.Context) {
	select {
	case <-a.ready:
	case <-ctx.Done():
	}
	select {
	case <-a.examined:
		if a.duplicates.two() == "" {
			a.engines.Run(ctx)
		}
	case <-ctx.Done():
	}
}

// watchForDuplicate finds out whether another agent uses the name where the start could not,
// and resumes the jobs that are on disk if there is none. If there is one, this agent stays
// silent until it is started again: commands that it took would look like lost ones to the
// other agent, which would run them, too.
func (a *Agent) watchForDuplicate(ctx context.Context, store *jobs.Store) {
	if !a.duplicates.watch(ctx) || ctx.Err() != nil {
		return
	}
	defer close(a.examined)
	recovered, err := a.recoverJobs(store)
	if err != nil {
		a.cfg.Logger.Error("jobs not read; restart the agent to resume them", "err", err)
		return
	}
	a.executor.ResumeAll(ctx, recovered)
	a.releaseStaleLeases(ctx)
}

// jobsDirName is the directory of the jobs in Config.Dir.
const jobsDirName = "jobs"

// openStore opens the jobs' directory in dir for this agent alone.
// changed is called after each change of a job's state.
func openStore(dir string, changed func(*jobs.Job)) (store *jobs.Store, unlock func() error, err error) {
	store, err = jobs.Open(filepath.Join(dir, jobsDirName), changed)
	if err != nil {
		return nil, nil, fmt.Errorf("jobs directory: %w", err)
	}
	lock := flock.New(filepath.Join(store.Dir(), ".lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, nil, fmt.Errorf("lock %s: %w", store.Dir(), err)
	}
	if !locked {
		return nil, nil, fmt.Errorf("%w: %s", ErrInUse, dir)
	}
	if err := store.Sweep(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("jobs directory: %w", err), lock.Close())
	}
	return store, lock.Close, nil
}

// run runs all parts of the agent, and stops them in this order: no new commands, no
// new jobs; running benchmarks are detached or stopped; what can be delivered is
// delivered; the heartbeats end last, so that the server sees the jobs end.
func (a *Agent) run(ctx context.Context, store *jobs.Store, found finding, recovered []*jobs.Job) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	deliverCtx, stopDelivering := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDelivering()
	drainCtx, drain := context.WithCancel(deliverCtx)
	defer drain()
	beatCtx, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeats()

	var maintaining, delivering, asking, beating, background sync.WaitGroup
	background.Go(func() {
		a.host.Run(ctx, a.queue.Idle, hostmonitor.Changes{Described: a.queue.Look, Differs: a.machineChanged})
	})
	background.Go(func() { a.watchEngines(ctx) })
	maintaining.Go(func() { a.maintainer.run(ctx, a.examined) })
	delivering.Go(func() { a.outbox.Run(deliverCtx, drainCtx) })
	asking.Go(func() { a.reconciler.run(drainCtx) })
	var examining sync.WaitGroup
	switch found {
	case alone:
		background.Go(func() { a.releaseStaleLeases(drainCtx) })
	case uncertain:
		examining.Go(func() { a.watchForDuplicate(ctx, store) })
	}
	var receiving sync.WaitGroup
	receiving.Go(func() { a.receiver.run(ctx) })
	stopRemembering := a.remember(context.WithoutCancel(ctx))
	serving := (&api{a}).serve(beatCtx, a.cfg.Listener)
	a.registry.setAccepting(true)
	// Only now, since the first answer may bring a command.
	beating.Go(func() {
		select {
		case <-a.examined: // until then a heartbeat of this agent's would hide another's
			_ = a.beats.Run(beatCtx)
		case <-ctx.Done():
		}
	})
	close(a.ready)

	a.executor.ResumeAll(ctx, recovered)
	a.schedule(ctx, leave)
	leave()
	examining.Wait()
	receiving.Wait() // what it accepts is delivered

	a.cfg.Logger.Info("stopping", "running", len(a.queue.Active()), "waiting", len(a.queue.Waiting()))
	a.registry.setAccepting(false)
	a.queue.Close()
	a.registry.writing.Wait()
	maintaining.Wait()
	a.executor.DetachAll()
	drain()
	timeout := time.AfterFunc(a.cfg.DrainTimeout, stopDelivering)
	delivering.Wait()
	timeout.Stop()
	stopDelivering()
	a.registry.stopUsers()
	stopBeats()
	asking.Wait()
	beating.Wait()
	stopRemembering() // what the last heartbeat brought
	background.Wait()
	err := serving()
	a.cfg.Logger.Info("stopped")
	return err
}

// remember writes what is remembered of the server until stop is called, which returns
// once all of it is written.
func (a *Agent) remember(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var writing sync.WaitGroup
	writing.Go(func() { a.memory.run(ctx) })
	writing.Go(func() { a.duplicates.run(ctx) })
	return func() {
		cancel()
		writing.Wait()
	}
}

// schedule starts jobs until ctx is done, or until leave is called because the agent
// is to stop once idle.
func (a *Agent) schedule(ctx context.Context, leave func()) {
	defer a.scheduling.rest()
	select {
	case <-a.examined: // jobs that an agent before this one began come first
	case <-ctx.Done():
		return
	}
	for {
		a.scheduling.start(scheduleLimit)
		changed := a.queue.Changed()
		for j := a.queue.Take(); j != nil; j = a.queue.Take() {
			a.executor.Start(j)
		}
		a.planModels()
		if a.stopWhenIdle.Load() && a.queue.Idle() {
			leave()
		}
		a.scheduling.rest()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// planModels tells the storage which models the waiting jobs need.
func (a *Agent) planModels() {
	planner, ok := storage.As[storage.Planner](a.cfg.Storage)
	if !ok {
		return
	}
	var models []string
	seen := map[string]bool{}
	for _, j := range a.queue.Waiting() {
		if model := j.Command.Spec.Model; j.IsBenchmark() && !seen[model] {
			models, seen[model] = append(models, model), true
		}
	}
	planner.Plan(models)
}

// Drain makes the agent accept no new commands, and Run return once the running jobs
// have ended. Jobs that wait stay on disk for the next start.
func (a *Agent) Drain() {
	a.registry.setAccepting(false)
	a.stopWhenIdle.Store(true)
	a.queue.Close()
}

// CancelAll is Drain, and cancels the running jobs.
func (a *Agent) CancelAll(by string) {
	a.Drain()
	_, release, err := a.registry.acquire()
	if err != nil {
		return // nothing runs
	}
	defer release()
	for _, j := range a.queue.Active() {
		a.requestCancel(j, by)
	}
}

// applySettings makes the settings in force known to the storage and the heartbeats.
func (a *Agent) applySettings() {
	if c, ok := storage.As[storage.Configurer](a.cfg.Storage); ok {
		if err := c.Configure(a.settings.storage()); err != nil {
			a.notices.LogOnce("storage settings", func() { a.cfg.Logger.Warn("storage settings not applied", "err", err) })
		}
	}
	if err := a.beats.SetInterval(a.settings.interval()); err != nil {
		a.cfg.Logger.Warn("interval not applied", "err", err)
	}
}

// machineChanged tells the server of a machine that differs from before.
func (a *Agent) machineChanged() {
	a.cfg.Logger.Info("the machine has changed, registering again", "fingerprint", a.host.Description().Fingerprint())
	a.beats.Renew()
}

// beat returns the content of the next heartbeat.
func (a *Agent) beat() heartbeat.Beat {
	_, uptime := a.uptime()
	b := heartbeat.Beat{Status: heartbeat.StatusIdle, Uptime: uptime}
	for _, j := range a.queue.Active() {
		if a.queue.Blocked(j) == "" {
			b.Status, b.Busy, b.Task = heartbeat.StatusRunning, true, taskName(j)
			break
		}
	}
	a.host.Fill(&b)
	return b
}

// gpus returns the GPUs that a benchmark gets, as [runner.Job] names them.
func (a *Agent) gpus() []string {
	m := a.host.Description()
	found := m != nil && len(m.GPUs) > 0
	if a.cfg.GPUs == GPUAll || a.cfg.GPUs == GPUAuto && found {
		return []string{runner.AllGPUs}
	}
	return nil
}

// uptime returns when Run was called, and how long ago that is; zeros before.
func (a *Agent) uptime() (since time.Time, uptime time.Duration) {
	started := a.started.Load()
	if started == nil {
		return time.Time{}, 0
	}
	return *started, time.Since(*started)
}

// useSettings applies the settings of a heartbeat's answer.
func (a *Agent) useSettings(ctx context.Context, sent map[string]string) {
	a.lookAt(ctx, strings.TrimSpace(sent[settingModelDir]))
	before := a.settings.texts()
	refusals := a.settings.offer(sent)
	for _, name := range policy.Settings() {
		if err := refusals[name]; err != nil {
			a.cfg.Logger.WarnContext(ctx, "setting from the server not used", "err", err)
		}
	}
	a.audit.settings(before, a.settings.texts(), sent, refusals)
}

// answered handles the answer to a heartbeat.
func (a *Agent) answered(ctx context.Context, answer heartbeat.Answer) {
	a.useSettings(ctx, answer.Settings)
	if answer.Settings != nil {
		a.memory.set(func(r *remembered) { r.Settings = a.settings.saved() })
	}
	a.applySettings()
	for _, cmd := range answer.Commands {
		a.receiver.receive(ctx, cmd, jobs.FromServer)
	}
	// After an outage a command may have been lost together with its answer.
	if state := a.beats.State(); !state.Registered || state.FailingFor > 0 {
		a.reconciler.lookUpAfter(state.FailingFor)
	}
	a.reconciler.poke()
}
