package fleet

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Stats has the counters of a fleet. They count from the call of Run, except those
// marked "now".
type Stats struct {
	Agents     int   `json:"agents"`     // size of the fleet
	Started    int64 `json:"started"`    // now
	Registered int64 `json:"registered"` // at least once
	Online     int64 `json:"online"`     // now: the server answered their last heartbeat

	JobsRunning   int64 `json:"jobs_running"`   // now
	JobsStarted   int64 `json:"jobs_started"`   // reported to the server
	JobsCompleted int64 `json:"jobs_completed"` // reported to the server
	JobsFailed    int64 `json:"jobs_failed"`    // reported to the server

	LinesPrinted   int64 `json:"lines_printed"`   // by simulated benchmarks
	LinesDelivered int64 `json:"lines_delivered"` // accepted by the server, including the agents' own lines

	Requests  int64  `json:"requests"`
	Errors    int64  `json:"errors"` // requests that failed
	LastError string `json:"last_error"`

	// Durations of all requests, including failed ones. The quantiles are at most
	// an eighth too high.
	LatencyP50 time.Duration `json:"latency_p50_ns"`
	LatencyP99 time.Duration `json:"latency_p99_ns"`
	LatencyMax time.Duration `json:"latency_max_ns"`
}

// Ended returns the number of jobs that were reported as completed or failed.
func (s Stats) Ended() int64 { return s.JobsCompleted + s.JobsFailed }

// endedPoll is the interval at which WaitEnded checks the counters.
const endedPoll = 20 * time.Millisecond

// WaitEnded returns nil when at least n jobs were reported as completed or failed. If
// ctx is done first, it returns the cause of ctx.
func (f *Fleet) WaitEnded(ctx context.Context, n int64) error {
	for f.Stats().Ended() < n {
		if err := base.Wait(ctx, endedPoll); err != nil {
			return err
		}
	}
	return nil
}

// Stats returns the fleet's current counters. It is safe to call during Run.
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
