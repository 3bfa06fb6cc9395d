package outbox

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/reporter"
)

func TestOneAsksWhileTheServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBreaker()
		var mu sync.Mutex
		var tries []time.Time
		back := time.Now().Add(10 * time.Minute)
		send := func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			if time.Now().Before(back) {
				return errors.New("connection refused")
			}
			return nil
		}
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				for u.do(t.Context(), send) != nil {
				}
			})
		}
		wg.Wait()
		during := 0
		for _, at := range tries[1000:] { // the first round found out that it is away
			if at.Before(back) {
				during++
			}
		}
		require.Less(t, during, 150, "a thousand jobs ask no more often than one")
		require.Less(t, tries[len(tries)-1].Sub(back), time.Minute)
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBreaker()
		start := time.Now()
		require.Error(t, u.do(t.Context(), func(context.Context) error {
			return &reporter.RetryAfterError{After: 2 * time.Minute, Err: errors.New("busy")}
		}))
		require.EqualError(t, &reporter.RetryAfterError{After: 2 * time.Minute}, "the server asks to come back in 2m0s")
		require.NoError(t, u.do(t.Context(), func(context.Context) error { return nil }))
		require.GreaterOrEqual(t, time.Since(start), 2*time.Minute)
		require.Less(t, time.Since(start), 3*time.Minute)
	})
}

func TestARetryAfterThatIsPastIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBreaker()
		start := time.Now()
		require.Error(t, u.do(t.Context(), func(context.Context) error { return &reporter.RetryAfterError{After: -time.Hour} }))
		require.NoError(t, u.do(t.Context(), func(context.Context) error { return nil }))
		require.Less(t, time.Since(start), time.Second)
	})
}

func TestARejectionIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBreaker()
		start := time.Now()
		for range 3 {
			require.Error(t, u.do(t.Context(), func(context.Context) error { return &reporter.RejectedError{Code: 404} }))
		}
		require.Zero(t, time.Since(start))
	})
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBreaker()
		require.Error(t, u.do(t.Context(), func(context.Context) error {
			return &reporter.RetryAfterError{After: time.Hour, Err: errors.New("busy")}
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := u.do(ctx, func(context.Context) error { panic("not to be called") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
