// Package hostmonitor knows the machine that the agent runs on: its description, and
// the latest readings of its disk, GPUs and engines. It reads them at intervals, so
// that no heartbeat and no status waits for a disk, a GPU or a function of the program
// that embeds the agent.
package hostmonitor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/storage"
)

const (
	// registerWait bounds how long a registration waits for the description of
	// the machine. The server is told more at the next registration.
	registerWait = 3 * time.Second

	// firstReading bounds how long the first heartbeat waits for figures.
	firstReading = time.Second

	// readingEvery is the time between readings of disk, GPUs and engines, and
	// readingTimeout what each may take before the agent continues without it.
	readingEvery   = 30 * time.Second
	readingTimeout = 10 * time.Second

	// warningsWait is how long a Status waits for the embedding program's warnings.
	warningsWait = 200 * time.Millisecond

	// detectEvery is the time between looks at the whole machine, for a driver
	// that was installed or a GPU that was added. None is taken while a job
	// runs. detectTimeout is what one may take.
	detectEvery   = 10 * time.Minute
	detectTimeout = time.Minute

	// detectSoon is the wait before the second look if the first one was
	// incomplete, as with a driver that takes its time after a boot.
	detectSoon = 5 * time.Second
)

// Config says what a Monitor reads. Engines and Logger are required.
type Config struct {
	Detector hwdetect.Detector                              // nil knows the host name only
	Usage    func(context.Context) (storage.Usage, error)   // of the models' disk
	Engines  func(context.Context) ([]engine.Status, error) // on the machine itself
	Warnings func(context.Context) []string                 // for status; may be nil
	Problems func(context.Context) []health.Problem         // likewise
	Start    func(context.Context) error                    // whether a job can be started now; may be nil
	Free     func(context.Context) (int64, error)           // bytes free where the agent keeps its jobs; may be nil
	Logger   *slog.Logger
}

// A Monitor keeps what is known about the machine. Its methods are safe for concurrent
// use.
type Monitor struct {
	log     *slog.Logger
	detect  *guarded[*hwdetect.Machine]
	usage   *guarded[storage.Usage]
	gpus    *guarded[hwdetect.Telemetry]
	engines *guarded[[]engine.Status]
	start   *guarded[error]
	free    *guarded[int64]
	count   *guarded[hwdetect.Counters]

	warnings asked[[]string]
	problems asked[[]health.Problem]

	detected chan struct{}   // closed once the detector has answered
	readOnce chan struct{}   // closed once there are readings
	failing  map[string]bool // what failed last time; owned by run's goroutine

	mu      sync.Mutex
	now     Readings      // guarded by mu
	history history       // of the GPUs. guarded by mu
	sampled time.Time     // when Sampled was called last with readings. guarded by mu
	asked   time.Time     // when FreshTelemetry began a reading last. guarded by mu
	took    time.Duration // by that reading. guarded by mu
}

// Readings are the latest answers. What they point to is never changed.
type Readings struct {
	Machine   *hwdetect.Machine // nil before there is one
	Usage     *storage.Usage    // likewise
	Telemetry hwdetect.Telemetry
	Counters  hwdetect.Counters // of the GPUs; its zero value if they cannot be read
	Engines   []engine.Status
	Start     error  // why no job can be started; nil also while jobs run, when nobody asks
	FreeBytes *int64 // where the agent keeps its jobs; nil before there is a reading
}

// New returns a monitor that reads nothing until Run is called.
func New(cfg Config) *Monitor {
	if cfg.Detector == nil {
		cfg.Detector = noDetector{}
	}
	m := &Monitor{
		log: cfg.Logger, detected: make(chan struct{}), readOnce: make(chan struct{}), failing: map[string]bool{},
		detect:  newGuarded(cfg.Detector.Detect),
		usage:   newGuarded(cfg.Usage),
		engines: newGuarded(cfg.Engines),
	}
	if t, ok := cfg.Detector.(hwdetect.TelemetryReader); ok {
		m.gpus = newGuarded(t.Telemetry)
	}
	if c, ok := cfg.Detector.(hwdetect.CounterReader); ok {
		m.count = newGuarded(func(ctx context.Context) (hwdetect.Counters, error) {
			read, err := c.Counters(ctx)
			if errors.Is(err, hwdetect.ErrAbsent) { // no trouble: most machines have none
				return hwdetect.Counters{}, nil
			}
			return read, err
		})
	}
	if cfg.Start != nil {
		m.start = newGuarded(func(ctx context.Context) (error, error) { return cfg.Start(ctx), nil })
	}
	if cfg.Free != nil {
		m.free = newGuarded(cfg.Free)
	}
	m.warnings.set(cfg.Warnings)
	m.problems.set(cfg.Problems)
	return m
}

// Changes are called by Run, in its goroutine.
type Changes struct {
	Described func() // there is a description, or a new one
	Differs   func() // it has another fingerprint than before; not while jobs run
}

// Run describes the machine, then reads it now and then until ctx is done. While
// idle, it looks at the whole of it again, and also when a GPU has failed or recovered.
func (m *Monitor) Run(ctx context.Context, idle func() bool, changes Changes) {
	again := time.NewTimer(detectEvery)
	defer again.Stop()
	tick := time.NewTicker(readingEvery)
	defer tick.Stop()
	var reading sync.WaitGroup
	reading.Go(func() { // concurrently with the description, which a driver may hold up
		m.readForBeats(ctx)
		close(m.readOnce)
		m.readForStatus(ctx, idle())
	})
	_, err := m.describe(ctx)
	close(m.detected)
	changes.Described()
	reading.Wait()
	m.logRead(ctx, "machine", err)
	if what := m.Description(); what != nil && what.Incomplete() {
		again.Reset(detectSoon)
	}
	fault, differs := m.Latest().Telemetry.Fault, false
	look := func() {
		changed, err := m.describe(ctx)
		m.logRead(ctx, "machine", err)
		differs = differs || changed
		changes.Described()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-again.C:
			if idle() {
				look()
			}
			again.Reset(detectEvery)
		}
		m.readForBeats(ctx)
		m.readForStatus(ctx, idle())
		if now := m.Latest().Telemetry.Fault; now != fault {
			fault = now
			look() // which GPU it is
		}
		if differs && idle() {
			differs = false
			changes.Differs()
		}
	}
}

// describe looks at the machine and reports whether it differs from before. After
// an error, what was known of it still is.
func (m *Monitor) describe(ctx context.Context) (differs bool, err error) {
	what, err := m.detect.get(ctx, detectTimeout)
	if what == nil && err == nil {
		err = errors.New("the detector gave neither a machine nor an error")
	}
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.now.Machine
	m.now.Machine = what
	return before == nil || before.Fingerprint() != what.Fingerprint(), nil
}

// readForBeats takes one reading of what heartbeats hold. What does not answer in time
// leaves the reading of before.
func (m *Monitor) readForBeats(ctx context.Context) {
	readInto(ctx, m, "storage", m.usage, func(now *Readings, v storage.Usage) { now.Usage = &v })
	readInto(ctx, m, "telemetry", m.gpus, m.keepLocked)
	readInto(ctx, m, "engines", m.engines, func(now *Readings, v []engine.Status) { now.Engines = v })
}

// readForStatus takes one reading of everything else. No registration waits for it.
//
// Whether a job can be started is not asked while one runs: it needs nothing then, and is
// not to be disturbed.
func (m *Monitor) readForStatus(ctx context.Context, idle bool) {
	readInto(ctx, m, "state directory", m.free, func(now *Readings, v int64) { now.FreeBytes = &v })
	if idle {
		readInto(ctx, m, "runner", m.start, func(now *Readings, v error) { now.Start = v })
	} else {
		m.mu.Lock()
		m.now.Start = nil
		m.mu.Unlock()
	}
	readInto(ctx, m, "gpu counters", m.count, func(now *Readings, v hwdetect.Counters) { now.Counters = v })
}

// Warnings returns the warnings of the program that embeds the agent: those of now, or
// the latest where it does not answer within warningsWait.
func (m *Monitor) Warnings() []string { return m.warnings.get() }

// Problems returns the problems that the embedding program knows of, as Warnings does.
func (m *Monitor) Problems() []health.Problem { return m.problems.get() }

// readInto takes one reading, if there is a source for it.
func readInto[T any](ctx context.Context, m *Monitor, what string, source *guarded[T], set func(*Readings, T)) {
	if source == nil {
		return
	}
	v, err := source.get(ctx, readingTimeout)
	m.logRead(ctx, what, err)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	set(&m.now, v)
}

// logRead logs the first of several failures to read what, and the first success
// after them.
func (m *Monitor) logRead(ctx context.Context, what string, err error) {
	switch {
	case ctx.Err() != nil: // it may be why
	case err != nil && !m.failing[what]:
		m.log.WarnContext(ctx, "machine not read, trying again later", "what", what, "err", err)
		m.failing[what] = true
	case err == nil && m.failing[what]:
		m.log.InfoContext(ctx, "machine read again", "what", what)
		m.failing[what] = false
	}
}

// Wait returns the description of the machine, or what is known of it where
// the detector takes too long.
func (m *Monitor) Wait(ctx context.Context) *hwdetect.Machine {
	awaitClosed(ctx, m.detected, registerWait)
	if what := m.Description(); what != nil {
		return what
	}
	what, _ := noDetector{}.Detect(ctx)
	return what
}

// WaitRead returns once there are readings, or when they take too long.
func (m *Monitor) WaitRead(ctx context.Context) { awaitClosed(ctx, m.readOnce, firstReading) }

// awaitClosed returns once done is closed, after limit, or when ctx is done.
func awaitClosed(ctx context.Context, done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Description returns the description of the machine, nil before there is one.
func (m *Monitor) Description() *hwdetect.Machine {
	return m.Latest().Machine
}

// Latest returns the latest readings.
func (m *Monitor) Latest() Readings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Fill adds the latest readings to b. A GPU that cannot be used makes the
// agent's status an error, which is told in place of a task where there is none.
func (m *Monitor) Fill(b *heartbeat.Beat) {
	now := m.Latest()
	b.Engines = OnWire(now.Engines)
	if now.Usage != nil && *now.Usage != (storage.Usage{}) { // a disk may have nothing free
		b.StorageFree = &now.Usage.FreeBytes
	}
	if pct, ok := now.Telemetry.UtilizationPct(); ok {
		b.GPUUtilPct = &pct
	}
	if used, ok := now.Telemetry.MemoryUsedBytes(); ok {
		b.GPUMemoryBytes = &used
	}
	if now.Telemetry.Fault != "" {
		b.Status = heartbeat.StatusError
		if b.Task == "" {
			b.Task = now.Telemetry.Fault
		}
	}
}

// noDetector is the detector of an agent that was given none.
type noDetector struct{}

func (noDetector) Detect(context.Context) (*hwdetect.Machine, error) {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "unknown"
	}
	return &hwdetect.Machine{Hostname: name, EnvironmentType: "unknown"}, nil
}
