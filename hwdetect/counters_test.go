package hwdetect

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// countingSource is a Source with counters and processes.
type countingSource struct {
	fakeSource
	counters  func(context.Context) (Counters, error)
	processes func(context.Context) ([]GPUProcess, error)
}

func (c countingSource) Counters(ctx context.Context) (Counters, error) { return c.counters(ctx) }

func (c countingSource) Processes(ctx context.Context) ([]GPUProcess, error) {
	return c.processes(ctx)
}

func TestSystemAsksItsSourcesForCounters(t *testing.T) {
	t.Parallel()
	plain := fakeSource{}
	s, err := New(Config{Root: smallMachine, Sources: []Source{plain}})
	require.NoError(t, err)
	_, err = s.Counters(t.Context())
	require.ErrorIs(t, err, ErrAbsent, "no source has counters")
	_, err = s.Processes(t.Context())
	require.ErrorIs(t, err, ErrAbsent)
	require.NoError(t, s.Close())

	broken := errors.New("driver does not match")
	bad := countingSource{
		counters:  func(context.Context) (Counters, error) { return Counters{}, broken },
		processes: func(context.Context) ([]GPUProcess, error) { return nil, ErrAbsent },
	}
	good := countingSource{
		counters: func(context.Context) (Counters, error) {
			return Counters{GPUs: []GPUCounters{{Index: 3}}}, nil
		},
		processes: func(context.Context) ([]GPUProcess, error) { return []GPUProcess{{PID: 7}}, nil },
	}
	s, err = New(Config{Root: smallMachine, Sources: []Source{plain, bad, good}})
	require.NoError(t, err)
	c, err := s.Counters(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, c.GPUs[0].Index)
	p, err := s.Processes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []GPUProcess{{PID: 7}}, p)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Counters(done)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())

	s, err = New(Config{Root: smallMachine, Sources: []Source{bad}})
	require.NoError(t, err)
	_, err = s.Counters(t.Context())
	require.ErrorIs(t, err, broken)
	_, err = s.Counters(done)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, s.Close())
}

// One call per second gets a new reading each time.
func TestTelemetryIsNewEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := fakeSource{telemetry: func(context.Context) (Telemetry, error) {
			time.Sleep(3 * time.Millisecond)
			return Telemetry{Time: time.Now()}, nil
		}}
		s, err := New(Config{Root: smallMachine, Sources: []Source{src}})
		require.NoError(t, err)
		var last time.Time
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		for range 10 {
			<-ticks.C
			r, err := s.Telemetry(t.Context())
			require.NoError(t, err)
			require.True(t, r.Time.After(last))
			last = r.Time
		}
		require.NoError(t, s.Close())
	})
}
