package outbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

// maxRetryAfter bounds the wait that a server may ask for.
const maxRetryAfter = 10 * time.Minute

// A breaker is a circuit breaker that the senders of all jobs share. While the
// server answers it is closed: everybody sends. After a failure it is open, for
// growing waits. Then it is half-open: one sender probes the server, and the others
// wait for the outcome.
type breaker struct {
	mu        sync.Mutex
	retry     *backoff.ExponentialBackOff // guarded by mu, like all that follows
	openUntil time.Time                   // no request before; zero while closed
	probing   bool                        // whether somebody sends after openUntil
	successes int                         // requests that got through so far
	failures  int                         // and those that did not

	probed base.Broadcast // sent when a request has ended
}

func newBreaker() *breaker {
	return &breaker{retry: newRetry()}
}

// newRetry returns the waits between failed attempts.
func newRetry() *backoff.ExponentialBackOff {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 500 * time.Millisecond
	retry.RandomizationFactor = 1 // full jitter: between none and twice the wait
	retry.Multiplier = 2
	retry.MaxInterval = 15 * time.Second // so at most 30 s
	return retry
}

// do calls send once: immediately while the breaker is closed, after the common
// wait during an outage. It returns send's error, or ctx's if that ended first.
func (b *breaker) do(ctx context.Context, send func(context.Context) error) error {
	return b.doSince(ctx, -1, send)
}

// doSince is do for a request that failed before, when others had got through since
// times. If more have by now, another failure says nothing about the server, and
// holds nobody else up. A negative since means that it has not failed.
func (b *breaker) doSince(ctx context.Context, since int, send func(context.Context) error) error {
	probe, err := b.admit(ctx)
	if err != nil {
		return err
	}
	err = send(ctx)
	b.record(err, probe, ctx.Err() != nil, since)
	return err
}

// admit waits until the caller may send. probe says that all others wait for the
// outcome.
func (b *breaker) admit(ctx context.Context) (probe bool, err error) {
	for {
		b.mu.Lock()
		if b.openUntil.IsZero() {
			b.mu.Unlock()
			return false, ctx.Err()
		}
		wait := time.Until(b.openUntil)
		if wait <= 0 && !b.probing {
			b.probing = true
			b.mu.Unlock()
			return true, nil
		}
		probed := b.probed.Wait()
		b.mu.Unlock()
		if err := waitFor(ctx, wait, probed); err != nil {
			return false, err
		}
	}
}

// waitFor waits for d or, if d is not positive, for changed.
func waitFor(ctx context.Context, d time.Duration, changed <-chan struct{}) error {
	var expired <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-expired:
	case <-changed:
	}
	return nil
}

// record opens or closes the breaker after a request. A request whose sender gave
// up says nothing about the server.
func (b *breaker) record(err error, probe, abandoned bool, since int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	if !isAnswer(err) && !abandoned {
		b.failures++
	}
	switch {
	case isAnswer(err):
		b.openUntil = time.Time{}
		b.retry.Reset()
		b.successes++
	case abandoned:
	case since >= 0 && b.successes > since && !asksForPatience(err):
		b.openUntil = time.Time{}
	case probe || b.openUntil.IsZero():
		wait := b.retry.NextBackOff()
		if after, ok := errors.AsType[*reporter.RetryAfterError](err); ok {
			// Spread over a tenth more, since others were told the same.
			wait = min(max(after.After, 0), maxRetryAfter)
			wait += rand.N(wait/10 + 1)
		}
		b.openUntil = time.Now().Add(wait)
	}
	b.probed.Send()
}

// saw counts a request that was made elsewhere, such as a heartbeat.
func (b *breaker) saw(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if isAnswer(err) {
		b.successes++
	} else {
		b.failures++
	}
}

// counts returns how many requests got through so far, and how many did not.
func (b *breaker) counts() (successes, failures int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.successes, b.failures
}

// succeeded returns how many requests got through so far.
func (b *breaker) succeeded() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.successes
}

// closesAt returns when requests are made again after a failure; zero while they are
// made anyway.
func (b *breaker) closesAt() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.openUntil
}

// asksForPatience reports whether err names a time before which nobody may send.
func asksForPatience(err error) bool {
	_, ok := errors.AsType[*reporter.RetryAfterError](err)
	return ok
}

// isAnswer reports whether err, nil included, is the server's own answer and not an
// outage.
func isAnswer(err error) bool {
	if err == nil {
		return true
	}
	_, rejected := errors.AsType[*reporter.RejectedError](err)
	return rejected
}
