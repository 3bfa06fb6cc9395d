package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/storage"
)

const (
	// detectTimeout bounds how long a registration waits for the description
	// of the machine. The server is told more at the next registration.
	detectTimeout = 3 * time.Second

	// firstReading bounds how long the first heartbeat waits for figures.
	firstReading = time.Second

	// readingEvery is the time between readings of disk and GPUs, and
	// readingTimeout what one may take before the agent goes on without it.
	readingEvery   = 30 * time.Second
	readingTimeout = 10 * time.Second
)

const (
	// detectEvery is the time between looks at the whole machine, for a driver
	// that was installed or a GPU that was added. None is taken while a job has
	// its turn.
	detectEvery = 10 * time.Minute

	// detectLate is the wait before the second look if the first one was cut
	// short, as by a driver that takes its time after a boot.
	detectLate = 5 * time.Second
)

// machine keeps what is known about the machine, so that no heartbeat ever
// waits for a disk or a GPU.
type machine struct {
	cfg      Config
	detected chan struct{}   // closed once the detector has answered
	readOnce chan struct{}   // closed once there are readings
	failing  map[string]bool // what failed last time; for run's goroutine

	mu        sync.Mutex
	what      *hwdetect.Machine
	usage     *storage.Usage
	telemetry hwdetect.Telemetry
	engines   []heartbeat.Engine
}

func newMachine(cfg Config) *machine {
	return &machine{cfg: cfg, detected: make(chan struct{}), readOnce: make(chan struct{}), failing: map[string]bool{}}
}

// run detects the machine, then reads it now and then until ctx is done. While
// idle, it looks at the whole of it again, and calls changed if it is another.
func (m *machine) run(ctx context.Context, idle func() bool, changed func()) {
	m.detect(ctx)
	close(m.detected)
	wait := detectEvery
	if what := m.description(); what != nil && what.Late() {
		wait = detectLate
	}
	again := time.NewTimer(wait)
	defer again.Stop()
	tick := time.NewTicker(readingEvery)
	defer tick.Stop()
	m.read(ctx)
	close(m.readOnce)
	for ; ; m.read(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-again.C:
			if idle() && m.detect(ctx) {
				changed()
			}
			again.Reset(detectEvery)
		}
	}
}

// detect looks at the machine and reports whether it is another than before.
func (m *machine) detect(ctx context.Context) (changed bool) {
	detector := m.cfg.Detector
	if detector == nil {
		detector = noDetector{}
	}
	what, err := detector.Detect(ctx)
	if what == nil && err == nil {
		err = errors.New("the detector gave neither a machine nor an error")
	}
	m.note(ctx, "machine", err)
	if err != nil {
		return false // what was known of it still is
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.what
	m.what = what
	return before == nil || before.Fingerprint() != what.Fingerprint()
}

// read takes one reading of everything. Each part has its deadline; what does
// not keep to it leaves the reading of before.
func (m *machine) read(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, readingTimeout)
	defer cancel()
	usage, usageErr := m.cfg.Storage.Usage(limited)
	m.note(ctx, "storage", usageErr)
	var telemetry hwdetect.Telemetry
	var telemetryErr error
	if t, ok := m.cfg.Detector.(hwdetect.Telemeter); ok {
		telemetry, telemetryErr = t.Telemetry(limited)
		m.note(ctx, "telemetry", telemetryErr)
	}
	m.readEngines()

	m.mu.Lock()
	defer m.mu.Unlock()
	if usageErr == nil {
		m.usage = &usage
	}
	if telemetryErr == nil {
		m.telemetry = telemetry
	}
}

// readEngines looks at the engines that are installed on the machine.
func (m *machine) readEngines() {
	engines := m.cfg.Engines()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engines = engines
}

// note logs how a look at what went: the first of several that fail, and the
// first after them that doesn't.
func (m *machine) note(ctx context.Context, what string, err error) {
	switch {
	case ctx.Err() != nil: // it may be why
	case err != nil && !m.failing[what]:
		m.cfg.Logger.WarnContext(ctx, "machine not read, trying on", "what", what, "err", err)
		m.failing[what] = true
	case err == nil && m.failing[what]:
		m.cfg.Logger.InfoContext(ctx, "machine read again", "what", what)
		m.failing[what] = false
	}
}

// wait returns the description of the machine, or what is known of it where
// the detector takes too long.
func (m *machine) wait(ctx context.Context) *hwdetect.Machine {
	awaitClosed(ctx, m.detected, detectTimeout)
	if what := m.description(); what != nil {
		return what
	}
	what, _ := noDetector{}.Detect(ctx)
	return what
}

// waitRead returns once there are readings, or when they take too long.
func (m *machine) waitRead(ctx context.Context) { awaitClosed(ctx, m.readOnce, firstReading) }

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

// description returns the description of the machine, nil before there is one.
func (m *machine) description() *hwdetect.Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.what
}

// fill adds the latest readings to b. A GPU that cannot be used makes the
// agent's status an error, which is told in place of a task where there is none.
func (m *machine) fill(b *heartbeat.Beat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b.Engines = m.engines
	if m.usage != nil && *m.usage != (storage.Usage{}) { // a disk may have nothing free
		free := m.usage.FreeBytes
		b.StorageFree = &free
	}
	if pct, ok := m.telemetry.UtilizationPct(); ok {
		b.GPUUtilPct = &pct
	}
	if used, ok := m.telemetry.MemoryUsedBytes(); ok {
		b.GPUMemoryBytes = &used
	}
	if m.telemetry.Sick != "" {
		b.Status = heartbeat.StatusError
		if b.Task == "" {
			b.Task = m.telemetry.Sick
		}
	}
}

// readings returns the latest readings.
func (m *machine) readings() (usage storage.Usage, telemetry hwdetect.Telemetry, engines []heartbeat.Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.usage != nil {
		usage = *m.usage
	}
	return usage, m.telemetry, append([]heartbeat.Engine{}, m.engines...) // a list, even if it is empty
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
