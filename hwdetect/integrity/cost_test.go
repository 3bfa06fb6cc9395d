package integrity_test

import (
	"runtime"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// eightGPUs returns eight busy GPUs that cost nothing to read.
func eightGPUs(tb testing.TB) hwdetect.Static {
	tb.Helper()
	h100, known := hwdetect.Profile("h100-8")
	require.True(tb, known)
	return hwdetect.Static{Machine: h100, Load: func() float64 { return 0.9 }}
}

// A recording of ten hours needs no more memory than one of ten minutes.
func TestTenHoursTakeNoMoreMemory(t *testing.T) { // not in parallel, as it measures memory
	synctest.Test(t, func(t *testing.T) {
		gpus := eightGPUs(t)
		machine := integrity.NewMachine(integrity.MachineConfig{Root: fstest.MapFS{}, Telemetry: gpus, Counters: gpus})
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: machine}).Begin(t.Context(), integrity.Run{Dir: t.TempDir()})
		require.NoError(t, err)
		inUse := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		<-time.After(10 * time.Minute)
		early := inUse()
		<-time.After(10 * time.Hour)
		require.Less(t, inUse()-early, int64(64<<10))
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.InDelta(t, 36_600, report.Samples.Count, 2)
		require.Len(t, report.Samples.GPUs, 8)
	})
}

// BenchmarkState measures the state of this machine before or after a run, without GPUs.
func BenchmarkState(b *testing.B) {
	machine := integrity.NewMachine(integrity.MachineConfig{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := machine.State(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
