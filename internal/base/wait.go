package base

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Wait returns after d, or before with the cause of ctx's end. With a ctx that
// is done it returns at once.
func Wait(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// JoinCause returns the cause of ctx's end, if it has ended, together with err if that
// is more than a consequence of it. Otherwise it returns err.
func JoinCause(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return err
	case errors.Is(err, cause), errors.Is(err, ctx.Err()):
		return cause
	}
	return fmt.Errorf("%w; %w", cause, err)
}

// Outlast returns a context that ends d after ctx, for what is on its way when ctx ends.
// The caller calls release once when done.
func Outlast(ctx context.Context, d time.Duration) (longer context.Context, release func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var timer atomic.Pointer[time.Timer]
	unhook := context.AfterFunc(ctx, func() { timer.Store(time.AfterFunc(d, cancel)) })
	return longer, func() {
		unhook()
		if t := timer.Load(); t != nil {
			t.Stop()
		}
		cancel()
	}
}
