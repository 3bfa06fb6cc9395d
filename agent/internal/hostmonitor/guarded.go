package hostmonitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errUnanswered is matched by the error of a guarded call that took too long.
var errUnanswered = errors.New("no answer")

// A guarded calls a function that is not the agent's own. The function should
// return when its context ends, but a dead network file system or a driver may
// keep it for ever: then its caller waits no longer than the limit, and no second
// call starts until the first one has returned. The goroutine of such a call
// outlives Run.
type guarded[T any] struct {
	fn func(context.Context) (T, error)

	mu      sync.Mutex
	pending *call[T] // in flight; nil if none is. guarded by mu
}

type call[T any] struct {
	done  chan struct{}
	value T     // set before done is closed
	err   error // likewise
}

func newGuarded[T any](fn func(context.Context) (T, error)) *guarded[T] { return &guarded[T]{fn: fn} }

// get returns what the function returns, or, if it is still busy with an earlier
// call, what that one returns. After limit the error matches errUnanswered.
func (g *guarded[T]) get(ctx context.Context, limit time.Duration) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := g.start(ctx)
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
	}
	var none T
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return none, fmt.Errorf("%w within %s", errUnanswered, limit)
	}
	return none, ctx.Err()
}

// An asked is a function of the embedding program's that is called for each status. Its
// zero value has none.
type asked[T any] struct {
	fn *guarded[T] // set once in New

	mu   sync.Mutex
	last T // guarded by mu
}

// set makes fn the function. It may be nil.
func (a *asked[T]) set(fn func(context.Context) T) {
	if fn != nil {
		a.fn = newGuarded(func(ctx context.Context) (T, error) { return fn(ctx), nil })
	}
}

// get returns what the function returns, or its latest answer where it takes longer than
// warningsWait.
func (a *asked[T]) get() T {
	if a.fn == nil {
		return a.last
	}
	v, err := a.fn.get(context.Background(), warningsWait)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.last = v
	}
	return a.last
}

// start returns the call in flight, which it starts if there is none.
func (g *guarded[T]) start(ctx context.Context) *call[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pending != nil {
		return g.pending
	}
	c := &call[T]{done: make(chan struct{})}
	g.pending = c
	go func() {
		c.value, c.err = g.fn(ctx)
		g.mu.Lock()
		g.pending = nil
		g.mu.Unlock()
		close(c.done)
	}()
	return c
}
