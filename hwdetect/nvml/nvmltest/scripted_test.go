//go:build linux && cgo && nvml

package nvmltest_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/nvml"
	"github.com/kirizan/kitt-agent/hwdetect/nvml/nvmltest"
)

// A real shared library answers what its script says. Only one can be loaded in a
// process: functions are bound at their first call.
func TestScriptedLibrary(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, nvmltest.Build(t.Context(), dir))
	path := filepath.Join(dir, "script")
	t.Setenv(nvmltest.Env, path)
	script := nvmltest.Healthy(2, 0)
	script.Set(0, 1, "field.270", 5e9)
	script.Set(0, 1, "sm_clock", 900)
	script.Set(0, 1, "proc.66", 1<<30)
	script.Set(0, 1, "sm.66", 7)
	script.Set(0, 1, "xid", 79)
	require.NoError(t, script.Write(path, time.Now()))
	s := nvml.New(nvml.Config{Library: filepath.Join(dir, nvmltest.Library)})
	defer func() { require.NoError(t, s.Close()) }()

	c, err := s.Counters(t.Context())
	require.NoError(t, err)
	require.Len(t, c.GPUs, 2)
	require.Equal(t, 5*time.Second, *c.GPUs[1].HWThermal)
	require.Zero(t, *c.GPUs[0].HWThermal)
	require.Equal(t, "0000:02:00.0", c.GPUs[1].PCIBus)
	require.Equal(t, 16, *c.GPUs[1].MaxPCIeWidth)
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, reading.Fault)
	require.Equal(t, 900, *reading.GPUs[1].SMClockMHz)
	require.Equal(t, 99.0, *reading.GPUs[0].UtilizationPct)
	require.Equal(t, int64(79), *reading.GPUs[1].LastXID)
	list, err := s.Processes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []hwdetect.GPUProcess{{GPU: 1, PID: 66, Kind: "compute", MemoryBytes: new(int64(1 << 30)), SMPct: new(7.0)}}, list)

	script.Set(0, nvmltest.All, "hang", 1)
	require.NoError(t, script.Write(path, time.Now()))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Telemetry(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	script.Set(0, nvmltest.All, "hang", 0)
	require.NoError(t, script.Write(path, time.Now()))
	_, err = s.Telemetry(t.Context())
	require.NoError(t, err)
}
