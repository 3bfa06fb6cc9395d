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

// meter limits the number of concurrent requests to the server, and counts them.
type meter struct {
	cfg    Config
	slots  chan struct{}
	agents int

	started, known, online     atomic.Int64 // agents
	jobs                       atomic.Int64 // running now
	running, completed, failed atomic.Int64 // jobs reported to the server with this status
	printed, delivered         atomic.Int64 // lines that benchmarks printed; lines that the server accepted
	requests, faults           atomic.Int64
	took                       latencies

	mu   sync.Mutex
	last string // the latest fault; guarded by mu
}

func newMeter(cfg Config) *meter {
	return &meter{cfg: cfg, slots: make(chan struct{}, cfg.MaxInFlight)}
}

// do makes one request when a slot is free.
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

// setOnline records whether the server answered v's last heartbeat or registration.
func (m *meter) setOnline(v *virtual, online bool) {
	if v.online.Swap(online) != online {
		if online {
			m.online.Add(1)
		} else {
			m.online.Add(-1)
		}
	}
}

// stopped records that v has stopped.
func (m *meter) stopped(v *virtual) {
	m.setOnline(v, false)
	m.started.Add(-1)
}

// connect returns v's connection to the server. It is a reporter.Inquirer if the
// fleet's server is one.
func (m *meter) connect(v *virtual) agent.Server {
	l := link{m, v}
	if ask, ok := m.cfg.Server.(reporter.Inquirer); ok {
		return inquiringLink{l, ask}
	}
	return l
}

// link is one agent's connection to the server.
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

// Register registers the agent, and calls Config.Registered the first time.
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
	l.setOnline(l.v, err == nil)
	return answer, err
}

// Heartbeat sends beat.
func (l link) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (answer heartbeat.Answer, err error) {
	err = l.do(ctx, func() (err error) {
		answer, err = l.cfg.Server.Heartbeat(ctx, id, beat)
		return err
	})
	l.setOnline(l.v, err == nil)
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

// ReportEncodedResult delivers a result, which it decodes if the server is not a
// reporter.EncodedReporter.
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

// CheckResult returns data corrected by the server's rules, if it has any.
func (l link) CheckResult(data map[string]any) (clean map[string]any, notes []string) {
	if c, ok := l.cfg.Server.(reporter.Checker); ok {
		return c.CheckResult(data)
	}
	return data, nil
}

// inquiringLink is a link to a server that is a reporter.Inquirer.
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

// HasResult reports whether the server has a result.
func (l inquiringLink) HasResult(ctx context.Context, model, engine, timestamp string) (has bool, err error) {
	err = l.do(ctx, func() (err error) {
		has, err = l.ask.HasResult(ctx, model, engine, timestamp)
		return err
	})
	return has, err
}

// Dispatched returns the commands that were sent and have no status.
func (l inquiringLink) Dispatched(ctx context.Context, name string) (commands []reporter.DispatchedCommand, err error) {
	err = l.do(ctx, func() (err error) {
		commands, err = l.ask.Dispatched(ctx, name)
		return err
	})
	return commands, err
}

// FindTest returns the id of the test of a command, or an empty string if the server
// is not a reporter.TestFinder.
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
