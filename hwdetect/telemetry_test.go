package hwdetect

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTelemetryIsReadBesideTheCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var takes atomic.Int64 // nanoseconds
		var reads atomic.Int32
		var fails atomic.Bool
		src := fakeSource{telemetry: func(ctx context.Context) (Telemetry, error) {
			n := reads.Add(1)
			now := time.Now()
			select {
			case <-time.After(time.Duration(takes.Load())):
			case <-ctx.Done():
				return Telemetry{}, ctx.Err()
			}
			if fails.Load() {
				return Telemetry{}, errors.New("no")
			}
			return Telemetry{Time: now, GPUs: []GPUTelemetry{{UtilizationPct: new(float64(n))}}}, nil
		}}
		s, err := New(Config{Root: smallMachine, Sources: []Source{src}})
		require.NoError(t, err)
		read := func() Telemetry {
			r, err := s.Telemetry(t.Context())
			require.NoError(t, err)
			return r
		}

		// A quick reading is waited for, and then serves for a second.
		takes.Store(int64(20 * time.Millisecond))
		first := read()
		require.Equal(t, 1.0, *first.GPUs[0].UtilizationPct)
		require.Equal(t, first, read())
		require.Equal(t, int32(1), reads.Load())
		time.Sleep(30 * time.Second)
		require.Equal(t, 2.0, *read().GPUs[0].UtilizationPct, "no reading of half a minute ago")

		// A slow one is not: the caller gets the last, at once.
		takes.Store(int64(5 * time.Second))
		time.Sleep(30 * time.Second)
		start := time.Now()
		old := read()
		require.Equal(t, patience, time.Since(start))
		require.Equal(t, 2.0, *old.GPUs[0].UtilizationPct)
		read()
		require.Equal(t, int32(3), reads.Load(), "no second one beside it")
		time.Sleep(5 * time.Second)
		require.Equal(t, 3.0, *read().GPUs[0].UtilizationPct)

		// One that hangs under load is no sickness at first, and is one at last.
		takes.Store(int64(time.Hour))
		for range 3 {
			time.Sleep(30 * time.Second)
			require.Empty(t, read().Sick)
		}
		time.Sleep(2 * time.Minute)
		require.Contains(t, read().Sick, "have not answered for")
		takes.Store(int64(0))
		time.Sleep(30 * time.Second)
		require.Empty(t, read().Sick, "well again")

		// One try that comes to nothing is none either, however long ago.
		takes.Store(int64(time.Hour))
		time.Sleep(5 * time.Minute)
		require.Empty(t, read().Sick)
		takes.Store(int64(5 * time.Second))
		time.Sleep(5 * time.Minute)
		require.Empty(t, read().Sick)
		time.Sleep(10 * time.Second)
		takes.Store(0)

		// Errors count as silence.
		fails.Store(true)
		time.Sleep(30 * time.Second)
		require.Empty(t, read().Sick)
		time.Sleep(3 * time.Minute)
		require.NotEmpty(t, read().Sick)

		takes.Store(int64(time.Hour))
		time.Sleep(30 * time.Second)
		read()
		require.NoError(t, s.Close(), "ends the reading at work")
	})
}

func TestNoGPUIsNoSickness(t *testing.T) {
	t.Parallel()
	src := fakeSource{telemetry: func(context.Context) (Telemetry, error) { return Telemetry{}, ErrAbsent }}
	s, err := New(Config{Root: smallMachine, Sources: []Source{src}})
	require.NoError(t, err)
	r, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.Sick)
	require.False(t, r.Time.IsZero())
	_, known := r.UtilizationPct()
	require.False(t, known)
	require.NoError(t, s.Close())
}
