package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// An Agent takes benchmark jobs and runs them. Its methods are safe for
// concurrent use.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	settings *settings
	beats    *heartbeat.Loop
	queue    *queue
	uplink   *uplink
	host     *hostMonitor

	running    atomic.Bool   // whether Run was called
	ready      chan struct{} // closed once Run takes commands
	turns      pulse         // of schedule
	rounds     pulse         // of keepHouse
	streams    atomic.Int64
	lookup     atomic.Bool // whether to look for commands that were lost on the way
	lookupDue  atomic.Bool // whether somebody waits to set it
	lives      sync.WaitGroup
	couriers   sync.WaitGroup
	inquiry    sync.Mutex // held while the server is asked about tests
	background sync.WaitGroup
	intake     sync.WaitGroup // commands that are being written; grows only while accepting
	guests     sync.WaitGroup // callers who work on the files of jobs; grows only while there is a store

	mu           sync.Mutex
	store        *store          // nil while Run is not running
	jobs         map[string]*job // by the name of their directory
	reserved     map[string]bool // names of jobs that are being written
	started      time.Time       // when Run was called; zero before
	accepting    bool
	stopWhenIdle bool
	deliverCtx   context.Context // of the couriers, while Run is running
	drainCtx     context.Context // done once they are to wait no longer
	warnings     []string
	said         map[string]bool    // what is worth saying once
	leave        context.CancelFunc // ends Run from inside
}

// New returns an agent that does nothing until Run is called. It reports all
// that is wrong with cfg at once.
func New(cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	settings, settingsErr := newSettings(cfg.Settings, cfg.AllowedImages)
	if c, ok := cfg.Storage.(storage.Configurer); ok {
		settings.adopt(c.Settings())
	}
	if err := errors.Join(cfg.validate(), settingsErr); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a := &Agent{
		cfg:      cfg,
		log:      cfg.Logger,
		settings: settings,
		queue:    newQueue(cfg.MaxConcurrentJobs),
		uplink:   newUplink(),
		host:     newHostMonitor(cfg),
		jobs:     map[string]*job{},
		reserved: map[string]bool{},
		said:     map[string]bool{},
		ready:    make(chan struct{}),
	}
	beats, err := heartbeat.New(heartbeat.Config{
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
	a.beats = beats
	if limits := cfg.limits(); len(limits) > 0 {
		a.log.Info("not everything can be promised with these parts", "limits", limits)
	}
	return a, nil
}

// ErrInUse is matched by the error of Run if another agent uses the same Dir.
var ErrInUse = errors.New("another agent uses this directory")

// Run runs the agent until ctx is done, or until Drain or CancelAll let it end,
// and everything that it started has stopped, then returns nil. Benchmarks whose
// runner can find them again go on without it. A Runner, Storage, Detector or
// Server that doesn't return when its context ends keeps Run from returning.
//
// An error means that the agent could not begin, such as [ErrInUse], or that its
// API could not be served. Run closes Config.Listener in any case. It can be
// called once: to start anew, make another Agent.
func (a *Agent) Run(ctx context.Context) error {
	if a.running.Swap(true) {
		return errors.New("agent: Run was called before")
	}
	if a.cfg.Listener != nil {
		defer a.cfg.Listener.Close()
	}
	a.mu.Lock()
	a.started = time.Now()
	a.mu.Unlock()
	store, err := openStore(filepath.Join(a.cfg.Dir, "jobs"))
	if err != nil {
		return fmt.Errorf("agent: jobs directory: %w", err)
	}
	lock := flock.New(filepath.Join(store.dir, ".lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("agent: lock %s: %w", store.dir, err)
	}
	if !locked {
		return fmt.Errorf("agent: %w: %s", ErrInUse, a.cfg.Dir)
	}
	defer lock.Close()
	if err := store.sweep(); err != nil {
		return fmt.Errorf("agent: jobs directory: %w", err)
	}

	ctx, leave := context.WithCancel(ctx)
	defer leave()
	// What the agent still does once ctx has ended has contexts of its own: the
	// deliveries, and last of all the heartbeats.
	deliverCtx, stopDelivering := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDelivering()
	drainCtx, drain := context.WithCancel(deliverCtx)
	defer drain()
	beatCtx, stopBeats := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeats()

	a.mu.Lock()
	a.store, a.deliverCtx, a.drainCtx, a.leave = store, deliverCtx, drainCtx, leave
	a.mu.Unlock()
	defer a.closeHouse()
	a.applySettings()
	begun, err := a.recoverJobs()
	if err != nil {
		return fmt.Errorf("agent: read jobs: %w", err)
	}

	a.background.Go(func() { a.host.run(ctx, a.queue.idle, a.machineChanged) })
	var housekeeping, beating sync.WaitGroup
	housekeeping.Go(func() { a.keepHouse(ctx) })
	serving := a.serve(beatCtx, a.cfg.Listener)
	a.mu.Lock()
	a.accepting = true
	a.mu.Unlock()
	// Only now, since the first answer may bring a command.
	beating.Go(func() { _ = a.beats.Run(beatCtx) })
	close(a.ready)

	a.continueJobs(ctx, begun)
	a.schedule(ctx)
	a.log.Info("stopping", "running", len(a.queue.active()), "waiting", len(a.queue.line()))
	a.mu.Lock()
	a.accepting = false
	a.mu.Unlock()
	a.queue.close()
	a.intake.Wait()
	housekeeping.Wait()
	for _, j := range a.queue.active() {
		j.stopWith(runner.ErrDetach)
	}
	overdue := time.AfterFunc(a.cfg.StopGrace+cleanTimeout, a.sayOverdue)
	a.lives.Wait()
	overdue.Stop()
	drain() // couriers return once they have nothing to do, or cannot
	timeout := time.AfterFunc(a.cfg.DrainTimeout, stopDelivering)
	a.couriers.Wait()
	timeout.Stop()
	stopDelivering() // who waits for the end of a job that was let go waits no longer
	stopBeats()
	beating.Wait()
	a.background.Wait()
	err = serving()
	a.log.Info("stopped")
	return err
}

// sayOverdue says which jobs keep Run from returning.
func (a *Agent) sayOverdue() {
	for _, j := range a.queue.active() {
		a.log.Warn("job ignores the stop, waiting for it", "job", j.id, "state", string(j.state()))
	}
}

// closeHouse lets nobody work on the jobs' files any more: once the lock is gone
// they are the next agent's, which may run in the same program.
func (a *Agent) closeHouse() {
	a.mu.Lock()
	a.store = nil
	a.mu.Unlock()
	a.guests.Wait()
}

// visit lets a caller of the agent's methods work on the jobs' files until it
// calls leave. It has to come to an end when ctx does. While Run isn't running
// the error matches ErrNotAccepting.
func (a *Agent) visit() (ctx context.Context, leave func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store == nil {
		return nil, nil, ErrNotAccepting
	}
	a.guests.Add(1)
	return a.deliverCtx, a.guests.Done, nil
}

// schedule gives jobs their turn until ctx is done.
func (a *Agent) schedule(ctx context.Context) {
	defer a.turns.rest()
	for {
		a.turns.busy(turnLimit)
		changed := a.queue.changes.wait()
		for j := a.queue.take(); j != nil; j = a.queue.take() {
			a.begin(j)
		}
		a.plan()
		if a.shouldLeave() {
			a.leave()
		}
		a.turns.rest()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// begin starts j's turn. The channel is closed when the turn is over.
func (a *Agent) begin(j *job) <-chan struct{} {
	over := make(chan struct{})
	ctx, stop := context.WithCancelCause(context.Background())
	j.begin(stop)
	if j.cancelled() != nil {
		stop(errCancelled)
	}
	a.lives.Go(func() {
		defer close(over)
		defer stop(nil)
		a.live(ctx, j)
		j.end()
		a.queue.done(j)
		a.beats.Nudge()
	})
	return over
}

// plan tells the storage what the waiting jobs will ask for.
func (a *Agent) plan() {
	planner, ok := a.cfg.Storage.(storage.Planner)
	if !ok {
		return
	}
	var models []string
	for _, j := range a.queue.line() {
		if j.spec.Type == TypeRunTest && !slices.Contains(models, j.spec.Model) {
			models = append(models, j.spec.Model)
		}
	}
	planner.Plan(models)
}

// Drain makes the agent take no new commands and Run return once the jobs that
// have their turn have ended. Jobs that wait stay on disk for the next start.
func (a *Agent) Drain() {
	a.mu.Lock()
	a.accepting = false
	a.stopWhenIdle = true
	a.mu.Unlock()
	a.queue.close()
}

// CancelAll is Drain, and cancels the jobs that have their turn.
func (a *Agent) CancelAll(by string) {
	a.Drain()
	_, leave, err := a.visit()
	if err != nil {
		return // nothing has its turn
	}
	defer leave()
	for _, j := range a.queue.active() {
		_ = a.cancel(j, cancellation{By: by})
	}
}

func (a *Agent) shouldLeave() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopWhenIdle && a.queue.idle()
}

// gpus returns the GPUs that a benchmark gets, as [runner.Job] names them.
func (a *Agent) gpus() []string {
	m := a.host.description()
	found := m != nil && len(m.GPUs) > 0
	if a.cfg.GPUs == GPUAll || a.cfg.GPUs == GPUAuto && found {
		return []string{runner.AllGPUs}
	}
	return nil
}

// applySettings makes the settings that are in force known to those that they
// concern.
func (a *Agent) applySettings() {
	if c, ok := a.cfg.Storage.(storage.Configurer); ok {
		if err := c.Configure(a.settings.storage()); err != nil {
			a.sayOnce("storage settings", func() { a.log.Warn("storage settings not applied", "err", err) })
		}
	}
	if err := a.beats.SetInterval(a.settings.interval()); err != nil {
		a.log.Warn("interval not applied", "err", err)
	}
}

// sayOnce calls say unless something was said under the same key before.
func (a *Agent) sayOnce(key string, say func()) {
	a.mu.Lock()
	before := a.said[key]
	a.said[key] = true
	a.mu.Unlock()
	if !before {
		say()
	}
}

// warn adds a sentence to what status shows.
func (a *Agent) warn(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.warnings, text) {
		a.warnings = append(a.warnings, text)
	}
}

// retract takes back what was said once, under its text, and shown by status.
func (a *Agent) retract(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.said, text)
	a.warnings = slices.DeleteFunc(a.warnings, func(w string) bool { return w == text })
}

// port returns the port that the server is told.
func (a *Agent) port() int {
	if a.cfg.Port != 0 || a.cfg.Listener == nil {
		return a.cfg.Port
	}
	if addr, ok := a.cfg.Listener.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 0
}

// beatClient lets the heartbeat loop speak through the agent's Server.
type beatClient struct{ a *Agent }

func (c beatClient) Register(ctx context.Context) (string, time.Duration, error) {
	reg := Registration{
		Name:    c.a.cfg.Name,
		Port:    c.a.port(),
		Version: c.a.cfg.Version,
		Machine: c.a.host.wait(ctx),
	}
	if c.a.cfg.Capabilities != nil {
		reg.Capabilities = c.a.cfg.Capabilities(ctx)
	}
	answer, err := c.a.cfg.Server.Register(ctx, reg)
	if err == nil {
		c.a.host.waitRead(ctx) // a heartbeat is next; mostly they are there by now
	}
	return answer.AgentID, answer.Interval, err
}

func (c beatClient) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error) {
	return c.a.cfg.Server.Heartbeat(ctx, id, beat)
}

// machineChanged tells the server of a machine that is another than before.
func (a *Agent) machineChanged() {
	a.log.Info("the machine has changed, registering anew", "fingerprint", a.host.description().Fingerprint())
	a.beats.Renew()
}

// beat says how the agent is.
func (a *Agent) beat() heartbeat.Beat {
	_, uptime := a.uptime()
	b := heartbeat.Beat{Status: heartbeat.StatusIdle, Uptime: uptime}
	if active := a.queue.active(); len(active) > 0 {
		b.Status, b.Busy = heartbeat.StatusRunning, true
		b.Task = active[0].task()
	}
	a.host.fill(&b)
	return b
}

// uptime returns when Run was called, and how long ago that is; zeros before.
func (a *Agent) uptime() (since time.Time, uptime time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started.IsZero() {
		return a.started, 0
	}
	return a.started, time.Since(a.started)
}

// answered takes the answer to a heartbeat.
func (a *Agent) answered(ctx context.Context, answer heartbeat.Answer) {
	a.uplink.wentThrough()
	for _, err := range a.settings.offer(answer.Settings) {
		a.log.WarnContext(ctx, "setting from the server not used", "err", err)
	}
	a.applySettings()
	for _, cmd := range answer.Commands {
		a.receive(ctx, cmd, sourceServer)
	}
	// After an outage a command may have been lost together with its answer.
	if state := a.beats.State(); !state.Registered || state.FailingFor > 0 {
		a.lookUpAfter(state.FailingFor)
	}
	a.inquire()
}
