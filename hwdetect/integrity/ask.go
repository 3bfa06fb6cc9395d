package integrity

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// askGrace is what a call gets beyond its limit to return what it has.
const askGrace = 250 * time.Millisecond

var errHangs = errors.New("an earlier call has not returned")

// A line makes one call at a time. The calls are foreign code, which may hang though
// its context is done.
type line chan struct{}

func newLine() line { return make(line, 1) }

// ask calls f and waits for its answer for limit, and a moment more. It waits for its turn
// first, likewise. A call that does not return is abandoned; until it returns, ask makes
// no other one.
func ask[T any](ctx context.Context, l line, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	var none T
	turn := time.NewTimer(limit)
	defer turn.Stop()
	select {
	case l <- struct{}{}:
	case <-turn.C:
		return none, errHangs
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() { // ends when f returns
		defer cancel()
		v, err := caught(ctx, f)
		<-l
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
	}
	grace := time.NewTimer(askGrace)
	defer grace.Stop()
	select {
	case a := <-done:
		return a.value, a.err
	case <-grace.C:
		return none, fmt.Errorf("no answer within %s", limit)
	}
}

// caught calls f and makes a panic an error.
func caught[T any](ctx context.Context, f func(context.Context) (T, error)) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f(ctx)
}
