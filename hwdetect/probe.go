package hwdetect

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A probe finds out one thing. Its answer is a function that writes it into the
// machine, so that one that comes too late changes nothing.
type probe struct {
	what  string
	limit time.Duration
	run   func(ctx context.Context) (func(*Machine), error)
}

// probes runs probes. It remembers those that have not come back: a file on a
// dead network share, or a tool stuck in the driver, cannot be interrupted, and
// a second try would only be stuck beside the first.
type probes struct {
	running sync.WaitGroup

	mu  sync.Mutex
	out map[string]outing
}

// An outing is a probe that has not come back.
type outing struct {
	since time.Time
	back  chan struct{} // closed when it comes back
}

// run runs all of list at once, and calls apply for each answer, in no
// particular order, and gap for each that has none. It returns when all have
// answered or their limits are over.
func (p *probes) run(ctx context.Context, list []probe, apply func(func(*Machine)), gap func(Gap)) {
	type answer struct {
		probe probe
		write func(*Machine)
		late  bool
		err   error
	}
	answers := make(chan answer, len(list))
	for _, pr := range list {
		go func() {
			write, late, err := await(ctx, p, pr.what, pr.limit, pr.run)
			answers <- answer{pr, write, late, err}
		}()
	}
	for range list {
		a := <-answers
		if a.err != nil {
			gap(Gap{What: a.probe.what, Reason: a.err.Error(), Late: a.late})
		}
		if a.write != nil {
			apply(a.write)
		}
	}
}

// await calls run in a goroutine of its own and waits for its answer, at most
// for limit. late says that there was none in time. While an earlier run under
// the same name is out, await waits for that one, but no longer than it was to
// take.
func await[T any](ctx context.Context, p *probes, what string, limit time.Duration, run func(context.Context) (T, error)) (value T, late bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	back := make(chan struct{})
	for {
		p.mu.Lock()
		before, ok := p.out[what]
		if !ok {
			break // with p.mu held
		}
		p.mu.Unlock()
		timer := time.NewTimer(limit - time.Since(before.since))
		select {
		case <-before.back:
			timer.Stop()
			continue
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		cancel()
		return value, true, fmt.Errorf("no answer for %s", time.Since(before.since).Round(time.Second))
	}
	if p.out == nil {
		p.out = make(map[string]outing)
	}
	p.out[what] = outing{time.Now(), back}
	p.running.Add(1)
	p.mu.Unlock()

	type answer struct {
		value T
		late  bool
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		defer p.running.Done()
		defer cancel()
		v, err := run(ctx)
		p.mu.Lock()
		delete(p.out, what)
		p.mu.Unlock()
		close(back)
		done <- answer{v, err != nil && ctx.Err() != nil, err}
	}()
	select {
	case a := <-done:
		return a.value, a.late, a.err
	case <-ctx.Done():
		// The answer may have come at the same moment.
		select {
		case a := <-done:
			return a.value, a.late, a.err
		default:
		}
		return value, true, fmt.Errorf("no answer within %s", limit)
	}
}

// wait waits until no probe runs any more, at most for limit.
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
