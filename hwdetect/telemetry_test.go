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

func TestTelemetryIsReadConcurrently(t *testing.T) {
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

		// The caller waits for a quick reading, which is then used for a second.
		takes.Store(int64(20 * time.Millisecond))
		first := read()
		require.Equal(t, 1.0, *first.GPUs[0].UtilizationPct)
		require.Equal(t, first, read())
		require.Equal(t, int32(1), reads.Load())
		time.Sleep(30 * time.Second)
		require.Equal(t, 2.0, *read().GPUs[0].UtilizationPct, "not the reading of half a minute ago")

		// The caller does not wait for a slow one, and gets the last reading.
		takes.Store(int64(5 * time.Second))
		time.Sleep(30 * time.Second)
		start := time.Now()
		old := read()
		require.Equal(t, callerWait, time.Since(start))
		require.Equal(t, 2.0, *old.GPUs[0].UtilizationPct)
		read()
		require.Equal(t, int32(3), reads.Load(), "no second one starts")
		time.Sleep(5 * time.Second)
		require.Equal(t, 3.0, *read().GPUs[0].UtilizationPct)

		// A reading that hangs under load becomes a fault after two minutes.
		takes.Store(int64(time.Hour))
		for range 3 {
			time.Sleep(30 * time.Second)
			require.Empty(t, read().Fault)
		}
		time.Sleep(2 * time.Minute)
		require.Contains(t, read().Fault, "have not answered for")
		takes.Store(int64(0))
		time.Sleep(30 * time.Second)
		require.Empty(t, read().Fault, "the fault is cleared")

		// A single failed reading is not a fault, however long ago it was.
		takes.Store(int64(time.Hour))
		time.Sleep(5 * time.Minute)
		require.Empty(t, read().Fault)
		takes.Store(int64(5 * time.Second))
		time.Sleep(5 * time.Minute)
		require.Empty(t, read().Fault)
		time.Sleep(10 * time.Second)
		takes.Store(0)

		// Errors count as missing answers.
		fails.Store(true)
		time.Sleep(30 * time.Second)
		require.Empty(t, read().Fault)
		time.Sleep(3 * time.Minute)
		require.NotEmpty(t, read().Fault)

		takes.Store(int64(time.Hour))
		time.Sleep(30 * time.Second)
		read()
		require.NoError(t, s.Close(), "ends the running read")
	})
}

func TestNoGPUIsNotAFault(t *testing.T) {
	t.Parallel()
	src := fakeSource{telemetry: func(context.Context) (Telemetry, error) { return Telemetry{}, ErrAbsent }}
	s, err := New(Config{Root: smallMachine, Sources: []Source{src}})
	require.NoError(t, err)
	r, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.Fault)
	require.False(t, r.Time.IsZero())
	_, known := r.UtilizationPct()
	require.False(t, known)
	require.NoError(t, s.Close())
}
