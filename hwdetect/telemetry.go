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
	freshFor  = time.Second            // how long a reading serves without being renewed
	patience  = 100 * time.Millisecond // how long a caller waits for a renewal
	readLimit = 10 * time.Second       // how long one source may take for a reading
	sickAfter = 2 * time.Minute        // how long GPUs may keep silent; they are known to for 45 s under load
)

// telemetry keeps the latest reading and renews it when asked for it. There is
// no goroutine while nobody asks.
type telemetry struct {
	sources []Telemeter
	log     *slog.Logger

	mu      sync.Mutex
	last    Telemetry
	silent  time.Time     // since when no source has answered; zero if the last try was answered
	failed  int           // tries since then that came to nothing
	renewal chan struct{} // closed when the renewal at work ends; nil if none is
	cancel  context.CancelFunc
	closed  bool
}

// latest returns the last reading, renewed if that is done quickly.
func (t *telemetry) latest(ctx context.Context) (Telemetry, error) {
	t.mu.Lock()
	if len(t.sources) == 0 || t.closed || time.Since(t.last.Time) < freshFor {
		defer t.mu.Unlock()
		return t.currentLocked(), nil
	}
	if t.renewal == nil {
		t.renewLocked()
	}
	done := t.renewal
	t.mu.Unlock()

	timer := time.NewTimer(patience)
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

// currentLocked returns the last reading, which is a sick one if the GPUs have
// kept silent for too long since. t.mu must be held.
func (t *telemetry) currentLocked() Telemetry {
	last := t.last
	if t.failed > 1 && time.Since(t.silent) > sickAfter {
		last.Sick = fmt.Sprintf("the GPUs have not answered for %s", time.Since(t.silent).Round(time.Second))
	}
	return last
}

// renewLocked starts a new reading. t.mu must be held.
func (t *telemetry) renewLocked() {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	done := make(chan struct{})
	t.renewal, t.cancel = done, cancel
	if t.silent.IsZero() {
		t.silent = time.Now()
	}
	go func() { // whom wait waits for
		defer close(done)
		defer cancel()
		reading, err := t.read(ctx)

		t.mu.Lock()
		defer t.mu.Unlock()
		t.renewal = nil
		if err != nil {
			t.failed++
			t.log.Debug("no gpu telemetry", "err", err)
			return
		}
		if reading.Sick != t.last.Sick {
			t.logChange(reading)
		}
		t.last, t.silent, t.failed = reading, time.Time{}, 0
	}()
}

func (t *telemetry) logChange(reading Telemetry) {
	if reading.Sick != "" {
		t.log.Warn("gpu sick", "reason", reading.Sick)
	} else {
		t.log.Info("gpu well again")
	}
}

// read asks the sources in order. That none exists here is an answer too: a
// reading of no GPUs.
func (t *telemetry) read(ctx context.Context) (Telemetry, error) {
	var errs []error
	for _, src := range t.sources {
		reading, err := src.Telemetry(ctx)
		if err == nil {
			return reading, nil
		}
		if !errors.Is(err, ErrAbsent) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return Telemetry{Time: time.Now()}, nil
	}
	return Telemetry{}, errors.Join(errs...)
}

// stop ends the renewal at work, and lets no other begin.
func (t *telemetry) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.cancel != nil {
		t.cancel()
	}
}

// wait waits for the renewal at work, at most for limit.
func (t *telemetry) wait(limit time.Duration) bool {
	t.mu.Lock()
	done := t.renewal
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
