package hwdetect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	maxAge     = 500 * time.Millisecond // older readings are refreshed, so that one per second is a new one
	callerWait = 100 * time.Millisecond // how long a caller waits for a refresh
	readLimit  = 10 * time.Second       // how long one source may take for a reading
	faultAfter = 2 * time.Minute        // how long GPUs may give no answer; under load this can take 45 s
)

// telemetry keeps the latest reading and refreshes it on demand. It runs no
// goroutine between calls.
type telemetry struct {
	sources []TelemetryReader
	log     *slog.Logger

	mu       sync.Mutex // guards the fields below
	last     Telemetry
	failing  time.Time     // when the first of the failed refreshes began; zero if the last one succeeded
	failures int           // how many refreshes have failed since
	refresh  chan struct{} // closed when the running refresh ends; nil if none runs
	cancel   context.CancelFunc
	closed   bool
}

// latest returns the last reading, after a refresh if that is quick.
func (t *telemetry) latest(ctx context.Context) (Telemetry, error) {
	t.mu.Lock()
	if len(t.sources) == 0 || t.closed || time.Since(t.last.Time) < maxAge {
		defer t.mu.Unlock()
		return t.currentLocked(), nil
	}
	if t.refresh == nil {
		t.refreshLocked()
	}
	done := t.refresh
	t.mu.Unlock()

	timer := time.NewTimer(callerWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
		return Telemetry{}, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.currentLocked(), nil
}

// currentLocked returns the last reading, with a fault if the GPUs have given no
// answer for too long. t.mu must be held.
func (t *telemetry) currentLocked() Telemetry {
	last := t.last
	if t.failures > 1 && time.Since(t.failing) > faultAfter {
		last.Fault = fmt.Sprintf("the GPUs have not answered for %s", time.Since(t.failing).Round(time.Second))
	}
	return last
}

// refreshLocked starts a new reading. t.mu must be held.
func (t *telemetry) refreshLocked() {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	done := make(chan struct{})
	t.refresh, t.cancel = done, cancel
	if t.failing.IsZero() {
		t.failing = time.Now()
	}
	go func() { // wait waits for it
		defer close(done)
		defer cancel()
		reading, err := t.read(ctx)

		t.mu.Lock()
		defer t.mu.Unlock()
		t.refresh = nil
		if err != nil {
			t.failures++
			t.log.Debug("gpu telemetry not read", "err", err)
			return
		}
		if reading.Fault != t.last.Fault {
			t.logChange(reading)
		}
		t.last, t.failing, t.failures = reading, time.Time{}, 0
	}()
}

func (t *telemetry) logChange(reading Telemetry) {
	if reading.Fault != "" {
		t.log.Warn("gpu fault", "reason", reading.Fault)
	} else {
		t.log.Info("gpu fault cleared")
	}
}

// read asks the first source that exists on this machine. Where none exists, it returns
// a reading without GPUs. What makes one source fail, such as a driver that hangs, would
// make the next one fail too.
func (t *telemetry) read(ctx context.Context) (Telemetry, error) {
	for _, src := range t.sources {
		reading, err := src.Telemetry(ctx)
		if !errors.Is(err, ErrAbsent) {
			return reading, err
		}
	}
	return Telemetry{Time: time.Now()}, nil
}

// stop cancels a running refresh and prevents new ones.
func (t *telemetry) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.cancel != nil {
		t.cancel()
	}
}

// wait waits for a running refresh, at most for limit, and reports whether none
// runs.
func (t *telemetry) wait(limit time.Duration) bool {
	t.mu.Lock()
	done := t.refresh
	t.mu.Unlock()
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
