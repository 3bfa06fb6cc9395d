package fleet

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Stats says how a fleet fares. Counts are since Run was called, unless they
// say "now".
type Stats struct {
	Agents     int   `json:"agents"`     // that the fleet has
	Started    int64 `json:"started"`    // now
	Registered int64 `json:"registered"` // at least once
	Online     int64 `json:"online"`     // now: the server answered their last heartbeat

	JobsRunning   int64 `json:"jobs_running"`   // now
	JobsStarted   int64 `json:"jobs_started"`   // that the server was told of
	JobsCompleted int64 `json:"jobs_completed"` // likewise
	JobsFailed    int64 `json:"jobs_failed"`    // likewise

	LinesPrinted   int64 `json:"lines_printed"`   // by simulated benchmarks
	LinesDelivered int64 `json:"lines_delivered"` // that the server has taken, with the agents' own

	Requests  int64  `json:"requests"`
	Errors    int64  `json:"errors"` // requests that failed
	LastError string `json:"last_error"`

	// How long requests took, turned away ones too, at most an eighth too high.
	LatencyP50 time.Duration `json:"latency_p50_ns"`
	LatencyP99 time.Duration `json:"latency_p99_ns"`
	LatencyMax time.Duration `json:"latency_max_ns"`
}

// Ended returns how many jobs the server was told the end of.
func (s Stats) Ended() int64 { return s.JobsCompleted + s.JobsFailed }

// endedPoll is the time between two looks of WaitEnded.
const endedPoll = 20 * time.Millisecond

// WaitEnded returns nil once the server was told the end of n jobs, and ctx's error
// if that is done before.
func (f *Fleet) WaitEnded(ctx context.Context, n int64) error {
	for f.Stats().Ended() < n {
		if err := base.Wait(ctx, endedPoll); err != nil {
			return err
		}
	}
	return nil
}

// Stats returns how the fleet fares now.
func (f *Fleet) Stats() Stats {
	m := f.meter
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	return Stats{
		Agents:         m.agents,
		Started:        m.started.Load(),
		Registered:     m.known.Load(),
		Online:         m.online.Load(),
		JobsRunning:    m.jobs.Load(),
		JobsStarted:    m.running.Load(),
		JobsCompleted:  m.completed.Load(),
		JobsFailed:     m.failed.Load(),
		LinesPrinted:   m.printed.Load(),
		LinesDelivered: m.delivered.Load(),
		Requests:       m.requests.Load(),
		Errors:         m.faults.Load(),
		LastError:      last,
		LatencyP50:     m.took.quantile(0.5),
		LatencyP99:     m.took.quantile(0.99),
		LatencyMax:     time.Duration(m.took.most.Load()),
	}
}
