package fleet

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// meter lets a bounded number of requests through to the server at once, and
// counts them.
type meter struct {
	cfg    Config
	slots  chan struct{}
	agents int

	started, known, online     atomic.Int64 // agents
	jobs                       atomic.Int64 // that run now
	running, completed, failed atomic.Int64 // jobs that the server was told of: running, completed, failed
	printed, delivered         atomic.Int64 // lines of the benchmarks'; lines that the server has taken
	requests, faults           atomic.Int64
	took                       latencies

	mu   sync.Mutex
	last string // the latest fault
}

func newMeter(cfg Config) *meter {
	return &meter{cfg: cfg, slots: make(chan struct{}, cfg.MaxInFlight)}
}

// do makes one request when it is its turn.
func (m *meter) do(ctx context.Context, request func() error) error {
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.slots }()
	begun := time.Now()
	err := request()
	m.requests.Add(1)
	m.took.add(time.Since(begun))
	if err != nil && ctx.Err() == nil && !errors.Is(err, heartbeat.ErrUnknownAgent) {
		m.faults.Add(1)
		m.mu.Lock()
		m.last = err.Error()
		m.mu.Unlock()
	}
	return err
}

// heard notes whether the server has heard v.
func (m *meter) heard(v *virtual, yes bool) {
	if v.online.Swap(yes) != yes {
		if yes {
			m.online.Add(1)
		} else {
			m.online.Add(-1)
		}
	}
}

// stopped notes that v is no longer there.
func (m *meter) stopped(v *virtual) {
	m.heard(v, false)
	m.started.Add(-1)
}

// connect returns the server as v sees it. It can be asked what the server
// holds if the fleet's server can.
func (m *meter) connect(v *virtual) agent.Server {
	l := link{m, v}
	if ask, ok := m.cfg.Server.(reporter.Inquirer); ok {
		return inquiringLink{l, ask}
	}
	return l
}

// link is one agent's way to the server.
type link struct {
	*meter
	v *virtual
}

var (
	_ reporter.Reporter = link{}
	_ reporter.Checker  = link{}
	_ reporter.Inquirer = inquiringLink{}

	_ reporter.TestFinder = inquiringLink{}

	_ reporter.EncodedReporter = link{}
)

// Register makes the agent known, and calls Config.Registered the first time.
func (l link) Register(ctx context.Context, reg agent.Registration) (answer agent.Registered, err error) {
	err = l.do(ctx, func() (err error) {
		answer, err = l.cfg.Server.Register(ctx, reg)
		return err
	})
	if err == nil && !l.v.registered.Load() {
		if l.cfg.Registered != nil {
			err = l.do(ctx, func() error { return l.cfg.Registered(ctx, l.v.name, answer.AgentID) })
		}
		if err == nil {
			l.v.registered.Store(true)
			l.known.Add(1)
		}
	}
	l.heard(l.v, err == nil)
	return answer, err
}

// Heartbeat reports beat.
func (l link) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (answer heartbeat.Answer, err error) {
	err = l.do(ctx, func() (err error) {
		answer, err = l.cfg.Server.Heartbeat(ctx, id, beat)
		return err
	})
	l.heard(l.v, err == nil)
	return answer, err
}

// ReportStatus sets a test's status.
func (l link) ReportStatus(ctx context.Context, testID string, status reporter.Status, reason string) error {
	err := l.do(ctx, func() error { return l.cfg.Server.ReportStatus(ctx, testID, status, reason) })
	if err == nil {
		switch status {
		case "running":
			l.running.Add(1)
		case "completed":
			l.completed.Add(1)
		default:
			l.failed.Add(1)
		}
	}
	return err
}

// ReportLog appends lines to a test's log.
func (l link) ReportLog(ctx context.Context, testID, text string) error {
	err := l.do(ctx, func() error { return l.cfg.Server.ReportLog(ctx, testID, text) })
	if err == nil {
		l.delivered.Add(1 + int64(strings.Count(text, "\n")))
	}
	return err
}

// ReportResult delivers a result.
func (l link) ReportResult(ctx context.Context, agentID string, result reporter.Result) error {
	return l.do(ctx, func() error { return l.cfg.Server.ReportResult(ctx, agentID, result) })
}

// ReportEncodedResult delivers a result, decoded for a server that takes it only
// so.
func (l link) ReportEncodedResult(ctx context.Context, agentID string, result reporter.EncodedResult) error {
	if r, ok := l.cfg.Server.(reporter.EncodedReporter); ok {
		return l.do(ctx, func() error { return r.ReportEncodedResult(ctx, agentID, result) })
	}
	decoded, err := result.Decode()
	if err != nil {
		return err
	}
	return l.ReportResult(ctx, agentID, decoded)
}

// CheckResult returns data as the server's rules want it.
func (l link) CheckResult(data map[string]any) (clean map[string]any, notes []string) {
	if c, ok := l.cfg.Server.(reporter.Checker); ok {
		return c.CheckResult(data)
	}
	return data, nil
}

// inquiringLink is a link to a server that can be asked.
type inquiringLink struct {
	link
	ask reporter.Inquirer
}

// Test returns the server's record of a test.
func (l inquiringLink) Test(ctx context.Context, testID string) (test reporter.Test, err error) {
	err = l.do(ctx, func() (err error) {
		test, err = l.ask.Test(ctx, testID)
		return err
	})
	return test, err
}

// LogRows returns all rows of a test's log.
func (l inquiringLink) LogRows(ctx context.Context, testID string) (rows []string, err error) {
	err = l.do(ctx, func() (err error) {
		rows, err = l.ask.LogRows(ctx, testID)
		return err
	})
	return rows, err
}

// HasResult says whether the server holds a result.
func (l inquiringLink) HasResult(ctx context.Context, model, engine, timestamp string) (has bool, err error) {
	err = l.do(ctx, func() (err error) {
		has, err = l.ask.HasResult(ctx, model, engine, timestamp)
		return err
	})
	return has, err
}

// Dispatched returns the commands that were handed out and nothing was heard of.
func (l inquiringLink) Dispatched(ctx context.Context, name string) (commands []reporter.DispatchedCommand, err error) {
	err = l.do(ctx, func() (err error) {
		commands, err = l.ask.Dispatched(ctx, name)
		return err
	})
	return commands, err
}

// FindTest returns the id of the test that a command belongs to, empty if the
// server cannot be asked for that.
func (l inquiringLink) FindTest(ctx context.Context, name, commandID string) (id string, err error) {
	finder, ok := l.ask.(reporter.TestFinder)
	if !ok {
		return "", nil
	}
	err = l.do(ctx, func() (err error) {
		id, err = finder.FindTest(ctx, name, commandID)
		return err
	})
	return id, err
}
