package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// NudgeIn requests a beat after each of the waits, in place of those that an earlier
// call requested and that are still to come. While a benchmark runs it does nothing,
// and a benchmark that starts withdraws them. It never waits.
func (l *Loop) NudgeIn(waits ...time.Duration) {
	l.mu.Lock()
	if l.busy {
		l.mu.Unlock()
		return
	}
	l.extra = nil
	for _, d := range waits {
		l.extra = append(l.extra, time.Now().Add(d))
	}
	l.mu.Unlock()
	select {
	case l.planned <- struct{}{}:
	default: // the loop looks anyway
	}
}

// withdraw drops the beats of NudgeIn if the beat that was sent says that a benchmark
// runs.
func (l *Loop) withdraw(sent Beat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy = sent.isBusy(); l.busy {
		l.extra = nil
	}
}

// untilNext returns how long the loop waits: until end, or until the next beat of
// NudgeIn if that comes before.
func (l *Loop) untilNext(end time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, at := range l.extra {
		if at.Before(end) {
			end = at
		}
	}
	return time.Until(end)
}

// dropPast forgets the beats of NudgeIn whose time has come: the next beat is theirs.
func (l *Loop) dropPast() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var left []time.Time
	for _, at := range l.extra {
		if time.Until(at) > 0 {
			left = append(left, at)
		}
	}
	l.extra = left
}

// ErrNotRunning is matched by the error of a Beat while Run isn't running.
var ErrNotRunning = errors.New("heartbeat: Run is not running")

// Beat sends a heartbeat now, and a registration before it if one is due, and returns
// the error of that attempt. It waits for its outcome until ctx is done, and starts
// nothing if Run isn't running.
func (l *Loop) Beat(ctx context.Context) error {
	l.mu.Lock()
	before := l.begun
	l.mu.Unlock()
	l.Nudge()
	for {
		ended := l.ended.Wait()
		l.mu.Lock()
		running, done, err := !l.state.Due.IsZero(), l.done > before, l.outcome
		l.mu.Unlock()
		switch {
		case done:
			return err
		case !running:
			return ErrNotRunning
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("no outcome of the heartbeat yet: %w", ctx.Err())
		}
	}
}

// begin counts an attempt that begins, finish one that has ended with err.
func (l *Loop) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
}

func (l *Loop) finish(err error) {
	l.mu.Lock()
	l.done, l.outcome = l.begun, err
	l.mu.Unlock()
	l.ended.Send()
}
