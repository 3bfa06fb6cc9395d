package hwdetect

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A probe finds one property of the machine. It returns a function that sets the
// property, so that an answer that comes too late changes nothing.
type probe struct {
	what  string
	limit time.Duration
	run   func(ctx context.Context) (func(*Machine), error)
}

// probes runs probes and keeps track of those that have not returned. A read from
// a dead network share, or a tool that hangs in the driver, cannot be interrupted,
// and a second try would hang as well.
type probes struct {
	running sync.WaitGroup

	mu       sync.Mutex
	inFlight map[string]call // guarded by mu
}

// A call is a probe that has not returned.
type call struct {
	since time.Time
	done  chan struct{} // closed when it returns
}

// run runs all of list concurrently. It calls apply for each answer, in no
// particular order, and gap for each error. It returns when all have answered or
// exceeded their limits.
func (p *probes) run(ctx context.Context, list []probe, apply func(func(*Machine)), gap func(Gap)) {
	type answer struct {
		probe    probe
		write    func(*Machine)
		timedOut bool
		err      error
	}
	answers := make(chan answer, len(list))
	for _, pr := range list {
		go func() {
			write, timedOut, err := await(ctx, p, pr.what, pr.limit, pr.run)
			answers <- answer{pr, write, timedOut, err}
		}()
	}
	for range list {
		a := <-answers
		if a.err != nil {
			gap(Gap{What: a.probe.what, Reason: a.err.Error(), Incomplete: a.timedOut})
		}
		if a.write != nil {
			apply(a.write)
		}
	}
}

// await calls run in its own goroutine and waits for its answer, at most for
// limit. timedOut reports that there was none in time. While an earlier call under
// the same name is in flight, await waits for that one first, at most until the
// earlier one has had limit.
func await[T any](ctx context.Context, p *probes, what string, limit time.Duration, run func(context.Context) (T, error)) (value T, timedOut bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	returned := make(chan struct{})
	for {
		p.mu.Lock()
		earlier, ok := p.inFlight[what]
		if !ok {
			break // with p.mu held
		}
		p.mu.Unlock()
		timer := time.NewTimer(limit - time.Since(earlier.since))
		select {
		case <-earlier.done:
			timer.Stop()
			continue
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		cancel()
		return value, true, fmt.Errorf("no answer for %s", time.Since(earlier.since).Round(time.Second))
	}
	if p.inFlight == nil {
		p.inFlight = make(map[string]call)
	}
	p.inFlight[what] = call{time.Now(), returned}
	p.running.Add(1)
	p.mu.Unlock()

	type answer struct {
		value    T
		timedOut bool
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		defer p.running.Done()
		defer cancel()
		v, err := run(ctx)
		p.mu.Lock()
		delete(p.inFlight, what)
		p.mu.Unlock()
		close(returned)
		done <- answer{v, err != nil && ctx.Err() != nil, err}
	}()
	select {
	case a := <-done:
		return a.value, a.timedOut, a.err
	case <-ctx.Done():
		// The answer may have come at the same moment.
		select {
		case a := <-done:
			return a.value, a.timedOut, a.err
		default:
		}
		return value, true, fmt.Errorf("no answer within %s", limit)
	}
}

// wait waits until no probe runs, at most for limit, and reports whether none
// does.
func (p *probes) wait(limit time.Duration) bool {
	done := make(chan struct{})
	go func() { p.running.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
