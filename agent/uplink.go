package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// backlogLanes is how many ended jobs deliver their reports at the same time.
// Few: when a server returns from an outage, an agent with a thousand waiting
// jobs must not meet it with a thousand requests.
const backlogLanes = 2

// maxRetryAfter bounds the wait that a server may ask for.
const maxRetryAfter = 10 * time.Minute

// uplink is what the deliveries of all jobs share: a common view of whether the
// server can be reached, so that during an outage one of them asks at a time,
// with growing waits, in place of all of them.
type uplink struct {
	backlog chan struct{} // holds a token for each ended job that may deliver

	mu        sync.Mutex
	retry     *backoff.ExponentialBackOff
	notBefore time.Time // no request before; zero while all is well
	probing   bool      // whether somebody is trying after notBefore
	freed     broadcast // sent when probing ends
	successes int       // requests that went through so far
}

func newUplink() *uplink {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval = 500 * time.Millisecond
	retry.RandomizationFactor = 1 // full jitter: between none and twice the wait
	retry.Multiplier = 2
	retry.MaxInterval = 15 * time.Second // so at most 30 s
	return &uplink{backlog: make(chan struct{}, backlogLanes), retry: retry}
}

// do calls send, once, when it is this caller's turn: at once while the server
// answers, after the common wait during an outage. It returns send's error, or
// ctx's if that ended first.
func (u *uplink) do(ctx context.Context, send func(context.Context) error) error {
	probe, err := u.turn(ctx)
	if err != nil {
		return err
	}
	err = send(ctx)
	u.settle(err, probe, ctx.Err() != nil)
	return err
}

// turn waits until the caller may send. probe says that everybody else waits
// for the outcome.
func (u *uplink) turn(ctx context.Context) (probe bool, err error) {
	for {
		u.mu.Lock()
		if u.notBefore.IsZero() {
			u.mu.Unlock()
			return false, ctx.Err()
		}
		wait := time.Until(u.notBefore)
		if wait <= 0 && !u.probing {
			u.probing = true
			u.mu.Unlock()
			return true, nil
		}
		freed := u.freed.wait()
		u.mu.Unlock()
		if err := u.pause(ctx, wait, freed); err != nil {
			return false, err
		}
	}
}

// pause waits for d, or, where somebody else is trying, for the outcome.
func (u *uplink) pause(ctx context.Context, d time.Duration, freed <-chan struct{}) error {
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
	case <-freed:
	}
	return nil
}

// settle notes how a request went.
func (u *uplink) settle(err error, probe, abandoned bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if probe {
		u.probing = false
	}
	switch {
	case isAnswer(err):
		u.notBefore = time.Time{}
		u.retry.Reset()
		u.successes++
	case abandoned:
		// It says nothing about the server.
	case probe || u.notBefore.IsZero():
		wait := u.retry.NextBackOff()
		if after, ok := errors.AsType[*RetryAfterError](err); ok {
			// Spread over a tenth more, since others were told the same.
			wait = min(max(after.After, 0), maxRetryAfter)
			wait += rand.N(wait/10 + 1)
		}
		u.notBefore = time.Now().Add(wait)
	}
	u.freed.send()
}

// wentThrough notes a request that went through beside the uplink.
func (u *uplink) wentThrough() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.successes++
}

// succeeded returns how many requests went through so far.
func (u *uplink) succeeded() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.successes
}

// isAnswer reports whether err, nil included, is the server's own word rather
// than an outage.
func isAnswer(err error) bool {
	if err == nil {
		return true
	}
	_, refused := errors.AsType[*RefusedError](err)
	return refused
}
