//go:build linux && cgo && nvml

package nvml

import (
	"context"
	"encoding/binary"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// fieldsOf has d answer GetFieldValues with these numbers, and "not supported" for all
// other fields.
func fieldsOf(d *server.Device, numbers map[uint32]uint64) {
	d.GetFieldValuesFunc = func(values []nvml.FieldValue) nvml.Return {
		for i := range values {
			n, ok := numbers[values[i].FieldId]
			if !ok {
				values[i].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
				continue
			}
			values[i].ValueType = uint32(nvml.VALUE_TYPE_UNSIGNED_LONG_LONG)
			binary.NativeEndian.PutUint64(values[i].Value[:], n)
		}
		return nvml.SUCCESS
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	d := gpu(lib, 3)
	fieldsOf(d, map[uint32]uint64{
		74: 1_000, 76: 2_000, 269: 3_000, 270: 4_000, 271: 5_000,
		nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL: 7, nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL: 2,
	})
	d.GetVbiosVersionFunc = func() (string, nvml.Return) { return "96.00.74", nvml.SUCCESS }
	d.GetPowerManagementDefaultLimitFunc = func() (uint32, nvml.Return) { return 700_000, nvml.SUCCESS }
	d.GetPersistenceModeFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
	d.GetComputeModeFunc = func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_EXCLUSIVE_PROCESS, nvml.SUCCESS }
	d.GetEccModeFunc = func() (nvml.EnableState, nvml.EnableState, nvml.Return) {
		return nvml.FEATURE_ENABLED, nvml.FEATURE_DISABLED, nvml.SUCCESS
	}
	d.GetMaxClockInfoFunc = func(kind nvml.ClockType) (uint32, nvml.Return) {
		require.Equal(t, nvml.ClockType(nvml.CLOCK_SM), kind)
		return 1980, nvml.SUCCESS
	}
	d.GetMaxPcieLinkGenerationFunc = func() (int, nvml.Return) { return 5, nvml.SUCCESS }
	d.GetMaxPcieLinkWidthFunc = func() (int, nvml.Return) { return 16, nvml.SUCCESS }
	d.GetPcieReplayCounterFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	d.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { return 12_345_678, nvml.SUCCESS }
	d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 1, 0, true, false, nvml.SUCCESS }

	c, err := source(t, lib).Counters(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), c.Time, time.Minute)
	require.Len(t, c.GPUs, 8)
	require.Equal(t, hwdetect.GPUCounters{
		Index: 3, UUID: d.UUID, PCIBus: "0000:03:00.0", VBIOS: "96.00.74",
		PowerCap: new(time.Microsecond), SyncBoost: new(2 * time.Microsecond), SWThermal: new(3 * time.Microsecond),
		HWThermal: new(4 * time.Microsecond), HWPowerBrake: new(5 * time.Microsecond),
		EnergyJ: new(12345.678), PowerLimitW: new(400.0), DefaultPowerLimitW: new(700.0), Persistence: new(true),
		ComputeMode: "Exclusive_Process", MIG: new(false), ECC: new(true), ECCUncorrected: new(int64(2)), ECCCorrected: new(int64(2)),
		RemapPending: new(true), RemapFailed: new(false), MaxSMClockMHz: new(1980), MaxPCIeGen: new(5), MaxPCIeWidth: new(16),
		PCIeReplays: new(int64(1)), NVLinkErrors: new(int64(9)),
	}, c.GPUs[3])
}

// What a GPU does not support stays unknown, and is never 0.
func TestUnsupportedCountersAreUnknown(t *testing.T) {
	t.Parallel()
	lib := dgxh100.New()
	fieldsOf(gpu(lib, 0), nil)
	for i := range lib.Devices {
		gpu(lib, i).GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
	}
	gpu(lib, 2).GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
	c, err := source(t, lib).Counters(t.Context())
	require.NoError(t, err)
	for _, i := range []int{0, 1} {
		require.Equal(t, hwdetect.GPUCounters{Index: i, UUID: gpu(lib, i).UUID}, c.GPUs[i])
	}
	require.Equal(t, hwdetect.GPUCounters{Index: 2, UUID: gpu(lib, 2).UUID, RemapPending: new(true)}, c.GPUs[2])
}

// Older drivers have other counters of the same causes, in nanoseconds too.
func TestThrottleCountersOfOlderDrivers(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	gpu(lib, 0).GetViolationStatusFunc = func(p nvml.PerfPolicyType) (nvml.ViolationTime, nvml.Return) {
		return nvml.ViolationTime{ReferenceTime: 99, ViolationTime: uint64(p+1) * 1e9}, nvml.SUCCESS
	}
	c, err := source(t, lib).Counters(t.Context())
	require.NoError(t, err)
	g := c.GPUs[0]
	require.Equal(t, time.Second, *g.PowerCap)
	require.Equal(t, 2*time.Second, *g.SWThermal)
	require.Equal(t, 3*time.Second, *g.SyncBoost)
	require.Nil(t, g.HWThermal, "these drivers don't tell it from thermal slowdown by software")
	require.Nil(t, g.HWPowerBrake)
}

func TestFieldValues(t *testing.T) {
	t.Parallel()
	raw := func(n uint64) (b [8]byte) {
		binary.NativeEndian.PutUint64(b[:], n)
		return b
	}
	for _, tt := range []struct {
		kind  nvml.ValueType
		value uint64
		ret   nvml.Return
		want  uint64
		ok    bool
	}{
		{nvml.VALUE_TYPE_UNSIGNED_INT, 0xffffffff_00000007, nvml.SUCCESS, 7, true},
		{nvml.VALUE_TYPE_UNSIGNED_SHORT, 0xffffffff_ffff0007, nvml.SUCCESS, 7, true},
		{nvml.VALUE_TYPE_UNSIGNED_LONG, 7, nvml.SUCCESS, 7, true},
		{nvml.VALUE_TYPE_UNSIGNED_LONG_LONG, math.MaxUint64, nvml.SUCCESS, math.MaxUint64, true},
		{nvml.VALUE_TYPE_SIGNED_LONG_LONG, 7, nvml.SUCCESS, 7, true},
		{nvml.VALUE_TYPE_SIGNED_LONG_LONG, math.MaxUint64, nvml.SUCCESS, math.MaxUint64, false},
		{nvml.VALUE_TYPE_SIGNED_INT, 7, nvml.SUCCESS, 7, true},
		{nvml.VALUE_TYPE_SIGNED_INT, 0xffffffff, nvml.SUCCESS, 0, false},
		{nvml.VALUE_TYPE_DOUBLE, 7, nvml.SUCCESS, 0, false},
		{99, 7, nvml.SUCCESS, 0, false},
		{nvml.VALUE_TYPE_UNSIGNED_INT, 7, nvml.ERROR_NOT_SUPPORTED, 0, false},
	} {
		n, ok := fieldValue(nvml.FieldValue{ValueType: uint32(tt.kind), NvmlReturn: uint32(tt.ret), Value: raw(tt.value)})
		require.Equal(t, tt.ok, ok, tt)
		require.Equal(t, tt.want, n, tt)
	}
}

func TestClocksAndLinks(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	d := gpu(lib, 1)
	fieldsOf(d, map[uint32]uint64{nvml.FI_DEV_MEMORY_TEMP: 71})
	d.GetClockInfoFunc = func(kind nvml.ClockType) (uint32, nvml.Return) {
		return map[nvml.ClockType]uint32{nvml.CLOCK_SM: 1755, nvml.CLOCK_MEM: 2619}[kind], nvml.SUCCESS
	}
	d.GetPerformanceStateFunc = func() (nvml.Pstates, nvml.Return) { return nvml.PSTATE_0, nvml.SUCCESS }
	d.GetCurrPcieLinkGenerationFunc = func() (int, nvml.Return) { return 5, nvml.SUCCESS }
	d.GetCurrPcieLinkWidthFunc = func() (int, nvml.Return) { return 8, nvml.SUCCESS }
	d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 0x200 | 0x400 | 0x800, nvml.SUCCESS }
	gpu(lib, 2).GetPerformanceStateFunc = func() (nvml.Pstates, nvml.Return) { return nvml.PSTATE_UNKNOWN, nvml.SUCCESS }
	reading, err := source(t, lib).Telemetry(t.Context())
	require.NoError(t, err)
	g := reading.GPUs[1]
	require.Equal(t, []any{1755, 2619, 0, 71.0, 5, 8}, []any{*g.SMClockMHz, *g.MemoryClockMHz, *g.PerformanceState, *g.MemoryTemperatureC, *g.PCIeGen, *g.PCIeWidth})
	require.Equal(t, []string{"board_limit", "reliability", "0x800"}, g.ThrottleReasons)
	require.Nil(t, reading.GPUs[2].PerformanceState)
	require.Nil(t, reading.GPUs[2].SMClockMHz)
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	d := gpu(lib, 2)
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 20, UsedGpuMemory: 1 << 30}, {Pid: 10, UsedGpuMemory: math.MaxUint64}}, nvml.SUCCESS
	}
	d.GetMPSComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 30, UsedGpuMemory: 5}}, nvml.SUCCESS
	}
	d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 20}, {Pid: 40}}, nvml.SUCCESS
	}
	var since []uint64
	d.GetProcessUtilizationFunc = func(last uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
		since = append(since, last)
		if len(since) > 1 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return []nvml.ProcessUtilizationSample{
			{Pid: 20, TimeStamp: last + 5, SmUtil: 3}, {Pid: 20, TimeStamp: last + 9, SmUtil: 70}, {Pid: 99, SmUtil: 100}, {Pid: 10, SmUtil: 4_000_000_000},
		}, nvml.SUCCESS
	}
	gpu(lib, 5).GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 10, UsedGpuMemory: 7}}, nvml.SUCCESS
	}
	s := source(t, lib)
	list, err := s.Processes(t.Context())
	require.NoError(t, err)
	require.Equal(t, []hwdetect.GPUProcess{
		{GPU: 2, PID: 10, Kind: "compute", SMPct: new(100.0)},
		{GPU: 2, PID: 20, Kind: "compute", MemoryBytes: new(int64(1 << 30)), SMPct: new(70.0)},
		{GPU: 2, PID: 30, Kind: "mps", MemoryBytes: new(int64(5)), SMPct: new(0.0)},
		{GPU: 2, PID: 40, Kind: "graphics", MemoryBytes: new(int64(0)), SMPct: new(0.0)},
		{GPU: 5, PID: 10, Kind: "compute", MemoryBytes: new(int64(7))},
	}, list, "GPU 5 cannot tell who is busy")
	_, err = s.Processes(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.UnixMicro(int64(since[0])), time.Minute, "what was before is not of this run")
	require.Equal(t, since[0]+9, since[1])

	_, err = source(t, dgxh100.New()).Processes(t.Context())
	require.ErrorIs(t, err, errNoProcesses)
}

// A call that hangs ends with the caller's deadline, whatever was asked, and telemetry
// has no part in it.
func TestCountersThatHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lib := awakeServer(dgxh100.New())
		release := make(chan struct{})
		gpu(lib, 3).GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) {
			<-release
			return 0, nvml.SUCCESS
		}
		s := NewFromLibrary(Config{}, lib)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		_, err := s.Counters(ctx)
		require.ErrorContains(t, err, "no answer for 10s while reading the GPUs' counters")
		_, err = s.Processes(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begun))
		close(release)
		synctest.Wait()
		require.NoError(t, s.Close())
	})
}

// BenchmarkCounters measures the counters of eight GPUs without the driver.
func BenchmarkCounters(b *testing.B) {
	lib := awakeServer(dgxh100.New())
	s := source(b, lib)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Counters(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
