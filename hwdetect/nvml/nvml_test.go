//go:build linux && cgo && nvml

package nvml

import (
	"context"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/gpus"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source returns a Source over lib that is closed when the test ends.
func source(t testing.TB, lib nvml.Interface) *Source {
	s := NewFromLibrary(Config{}, lib)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// gpu returns the i-th device of a mock server.
func gpu(s *server.Server, i int) *server.Device { return s.Devices[i].(*server.Device) }

// awake implements what go-nvml's mocks leave out: readings, a bus address
// and links.
func awake(d *server.Device) {
	d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
		var p nvml.PciInfo
		for i, c := range "0000" + d.PciBusID { // NVML writes eight digits of domain
			p.BusId[i] = int8(c)
		}
		return p, nvml.SUCCESS
	}
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{Gpu: uint32(10 * d.Index)}, nvml.SUCCESS
	}
	d.MemoryInfo.Used = uint64(d.Index) << 30
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 41, nvml.SUCCESS }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 123_500, nvml.SUCCESS }
	d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 400_000, nvml.SUCCESS }
	d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) {
		return nvml.ClocksThrottleReasonGpuIdle | nvml.ClocksThrottleReasonSwPowerCap, nvml.SUCCESS
	}
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 2, nvml.SUCCESS }
	d.GetP2PStatusFunc = func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
		return nvml.P2P_STATUS_OK, nvml.SUCCESS
	}
	d.GetTopologyCommonAncestorFunc = func(other nvml.Device) (nvml.GpuTopologyLevel, nvml.Return) {
		if d.Index/4 == other.(*server.Device).Index/4 {
			return nvml.TOPOLOGY_NODE, nvml.SUCCESS
		}
		return nvml.TOPOLOGY_SYSTEM, nvml.SUCCESS
	}
}

// TestPaths reads the paths between GPUs over PCIe.
func TestPaths(t *testing.T) {
	t.Parallel()
	inv, err := source(t, awakeServer(dgxh100.New())).Inventory(t.Context())
	require.NoError(t, err)
	links := inv.GPUs[4].Links
	require.Len(t, links, 7)
	require.Equal(t, hwdetect.GPULink{Peer: 3, Path: hwdetect.PathSystem}, links[3])
	require.Equal(t, hwdetect.GPULink{Peer: 5, Path: hwdetect.PathNode}, links[4])
}

func awakeServer(s *server.Server) *server.Server {
	for i := range s.Devices {
		awake(gpu(s, i))
	}
	return s
}

func TestInventoryOfMockServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		server     *server.Server
		model      string
		capability string
		memory     int64
	}{
		{"DGX A100", dgxa100.New(), "Mock NVIDIA A100-SXM4-40GB", "8.0", 40 << 30},
		{"DGX H100", dgxh100.New(), "NVIDIA H100 80GB HBM3", "9.0", 80 << 30},
		{"DGX H200", dgxh200.New(), "NVIDIA H200 141GB HBM3e", "9.0", 141 << 30},
		{"DGX B200", dgxb200.New(), "NVIDIA B200 180GB HBM3e", "10.0", 180 << 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The plain mock implements half of the functions. Missing answers
			// are not faults.
			bare := source(t, tt.server)
			inv, err := bare.Inventory(t.Context())
			require.NoError(t, err)
			require.Len(t, inv.GPUs, 8)
			reading, err := bare.Telemetry(t.Context())
			require.NoError(t, err)
			require.Empty(t, reading.Fault)

			inv, err = source(t, awakeServer(tt.server)).Inventory(t.Context())
			require.NoError(t, err)
			require.Equal(t, tt.server.DriverVersion, inv.DriverVersion)
			require.Equal(t, hwdetect.CUDAVersion(tt.server.CudaDriverVersion), inv.CUDADriver)
			require.Empty(t, inv.Gaps)
			require.Len(t, inv.GPUs, 8)
			inv.GPUs[3].Links = nil // see TestPaths
			require.Equal(t, hwdetect.GPU{
				Index:             3,
				Model:             tt.model,
				UUID:              gpu(tt.server, 3).UUID,
				PCIBus:            "0000:03:00.0",
				MemoryBytes:       tt.memory,
				ComputeCapability: tt.capability,
				PowerLimitW:       400,
				MIG:               &hwdetect.MIG{},
				NVLinkPeers:       []int{0, 1, 2, 4, 5, 6, 7},
			}, inv.GPUs[3])
		})
	}
}

func TestTelemetry(t *testing.T) {
	t.Parallel()
	reading, err := source(t, awakeServer(dgxh100.New())).Telemetry(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), reading.Time, time.Minute)
	require.Empty(t, reading.Fault)
	require.Len(t, reading.GPUs, 8)
	require.Equal(t, hwdetect.GPUTelemetry{
		Index:           3,
		UtilizationPct:  new(30.0),
		MemoryUsedBytes: new(int64(3 << 30)),
		TemperatureC:    new(41.0),
		PowerW:          new(123.5),
		ThrottleReasons: []string{"sw_power_cap"},
		ECCUncorrected:  new(int64(2)),
	}, reading.GPUs[3])
}

func TestNVMLIsInitialisedOnce(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxa100.New())
	s := NewFromLibrary(Config{}, lib)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 5 {
				_, err := s.Telemetry(t.Context())
				require.NoError(t, err)
				_, err = s.Inventory(t.Context())
				require.NoError(t, err)
			}
		})
	}
	callers.Wait()
	require.Len(t, lib.InitCalls(), 1)
	require.Empty(t, lib.ShutdownCalls())

	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Len(t, lib.ShutdownCalls(), 1)
	_, err := s.Telemetry(t.Context())
	require.ErrorIs(t, err, errClosed)
}

// spark returns a server like a DGX Spark: one GB10 that reports no memory of its
// own.
func spark() *server.Server {
	lib := awakeServer(dgxh100.NewWithGPUs(gpus.Config{Name: "NVIDIA GB10", CudaMajor: 12, CudaMinor: 1}))
	d := gpu(lib, 0)
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED }
	d.GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		return 0, nvml.ERROR_NOT_SUPPORTED
	}
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 1, UsedGpuMemory: 30 << 30}, {Pid: 2, UsedGpuMemory: math.MaxUint64}}, nvml.SUCCESS
	}
	d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 1, UsedGpuMemory: 30 << 30}, {Pid: 3, UsedGpuMemory: 1 << 30}}, nvml.SUCCESS
	}
	return lib
}

func TestUnifiedMemory(t *testing.T) {
	t.Parallel()
	s := source(t, spark())
	inv, err := s.Inventory(t.Context())
	require.NoError(t, err)
	require.Empty(t, inv.Gaps)
	require.True(t, inv.GPUs[0].Unified)
	require.Nil(t, inv.GPUs[0].MIG)

	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, reading.Fault)
	require.Equal(t, int64(31<<30), *reading.GPUs[0].MemoryUsedBytes, "the sum over the processes, each counted once")
	require.Nil(t, reading.GPUs[0].ECCUncorrected)
}

func TestSystemOverNVML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "dgx-spark.txt"))
	require.NoError(t, err)
	recording, err := hwdetecttest.ParseRecording(string(text))
	require.NoError(t, err)
	cfg := recording.Config()
	cfg.NVIDIASMI = func(context.Context, ...string) ([]byte, error) {
		t.Error("nvidia-smi is run although NVML has all answers")
		return nil, hwdetect.ErrAbsent
	}
	for name, decline := range map[string]func() (nvml.Memory, nvml.Return){
		"not supported": func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED },
		"none":          func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.SUCCESS },
	} {
		lib := spark()
		gpu(lib, 0).GetMemoryInfoFunc = decline
		cfg.Sources = []hwdetect.Source{source(t, lib)}
		system, err := hwdetect.New(cfg)
		require.NoError(t, err)
		m, err := system.Detect(t.Context())
		require.NoError(t, err)
		require.Empty(t, m.Gaps)
		require.True(t, m.GPUs[0].Unified, name)
		require.Equal(t, m.MemoryBytes, m.GPUs[0].MemoryBytes)
		require.NoError(t, hwdetecttest.TestDetector(t.Context(), system))
		require.NoError(t, hwdetecttest.TestTelemetryReader(t.Context(), system))
		reading, err := system.Telemetry(t.Context())
		require.NoError(t, err)
		used, ok := reading.MemoryUsedBytes()
		require.True(t, ok)
		require.Equal(t, int64(31<<30), used)
		require.NoError(t, system.Close())
	}
}

func TestWhatIsNotUnifiedMemory(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(d *server.Device)
		gap    string
	}{
		{"a lost GB10", func(d *server.Device) {
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
		}, "fallen off the bus"},
		{"an unknown error", func(d *server.Device) {
			d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_UNKNOWN }
		}, "unknown"},
		{"a discrete GPU that declines", func(d *server.Device) { d.Config.CudaMajor, d.Config.CudaMinor = 9, 0 }, "does not support"},
		{"MIG", func(d *server.Device) {
			d.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 1, nvml.SUCCESS }
		}, "does not support"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lib := spark()
			tt.change(gpu(lib, 0))
			inv, err := source(t, lib).Inventory(t.Context())
			require.NoError(t, err)
			require.False(t, inv.GPUs[0].Unified)
			require.Zero(t, inv.GPUs[0].MemoryBytes)
			require.Len(t, inv.Gaps, 1)
			require.Equal(t, "memory_bytes", inv.Gaps[0].What)
			require.Contains(t, inv.Gaps[0].Reason, tt.gap)
		})
	}

	t.Run("Grace-Hopper", func(t *testing.T) {
		t.Parallel()
		lib := awakeServer(dgxh100.NewWithGPUs(gpus.Config{Name: "NVIDIA GH200 480GB", CudaMajor: 9, MemoryMB: 97871}))
		inv, err := source(t, lib).Inventory(t.Context())
		require.NoError(t, err)
		require.False(t, inv.GPUs[0].Unified)
		require.Equal(t, int64(97871<<20), inv.GPUs[0].MemoryBytes)
	})
}

func TestLostGPUAndItsReturn(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	s := source(t, lib)
	before, err := s.Inventory(t.Context())
	require.NoError(t, err)

	// It stops answering.
	healthy := gpu(lib, 5).GetUtilizationRatesFunc
	gpu(lib, 5).GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{}, nvml.ERROR_GPU_IS_LOST
	}
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Equal(t, "GPU 5 at 0000:05:00.0: the GPU has fallen off the bus; restart the machine", reading.Fault)
	require.Len(t, reading.GPUs, 8)
	require.Equal(t, 60.0, *reading.GPUs[6].UtilizationPct, "the other GPUs are still read")

	// A new session gets no handle for it.
	handle := lib.DeviceGetHandleByIndexFunc
	lib.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 5 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return handle(i)
	}
	reading, err = s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Contains(t, reading.Fault, "GPU 5: the GPU has fallen off the bus")
	lost, err := s.Inventory(t.Context())
	require.NoError(t, err)
	require.Len(t, lost.GPUs, 8)
	require.Equal(t, before.GPUs[5].UUID, lost.GPUs[5].UUID)
	require.Equal(t, "the GPU has fallen off the bus; restart the machine", lost.GPUs[5].Fault)
	require.Empty(t, lost.GPUs[4].Fault)
	require.Len(t, lost.Gaps, 1)

	// Then it is no longer counted at all.
	all := lib.Devices
	lib.DeviceGetHandleByIndexFunc = handle
	lib.Devices = slices.Delete(slices.Clone(all), 5, 6)
	reading, err = s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Equal(t, "GPU 5 at 0000:05:00.0 has disappeared; restart the machine", reading.Fault)

	// It returns.
	lib.Devices = all
	gpu(lib, 5).GetUtilizationRatesFunc = healthy
	reading, err = s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, reading.Fault)
	after, err := s.Inventory(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestErrorsAreFaultsAndUnsupportedQueriesAreNot(t *testing.T) {
	t.Parallel()
	for ret, wantFault := range map[nvml.Return]bool{
		nvml.ERROR_NOT_SUPPORTED:  false,
		nvml.ERROR_NO_PERMISSION:  false,
		nvml.ERROR_RESET_REQUIRED: true,
		nvml.ERROR_GPU_IS_LOST:    true,
		nvml.ERROR_UNKNOWN:        true,
	} {
		lib := awakeServer(dgxh100.New())
		gpu(lib, 2).GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, ret }
		reading, err := source(t, lib).Telemetry(t.Context())
		require.NoError(t, err)
		require.Equal(t, wantFault, reading.Fault != "", "answer %d", int(ret))
		require.Nil(t, reading.GPUs[2].TemperatureC)
	}
}

func TestDriverThatComesLater(t *testing.T) {
	t.Parallel()
	for _, ret := range []nvml.Return{nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_NO_PERMISSION} {
		lib := awakeServer(dgxa100.New())
		lib.InitFunc = func() nvml.Return { return ret }
		s := source(t, lib)
		_, err := s.Inventory(t.Context())
		require.ErrorIs(t, err, hwdetect.ErrAbsent)
		_, err = s.Telemetry(t.Context())
		require.ErrorIs(t, err, hwdetect.ErrAbsent)

		lib.InitFunc = func() nvml.Return { return nvml.SUCCESS }
		inv, err := s.Inventory(t.Context())
		require.NoError(t, err)
		require.Len(t, inv.GPUs, 8)
	}
}

func TestDriverMismatchIsAFault(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxa100.New())
	lib.InitFunc = func() nvml.Return { return nvml.ERROR_LIB_RM_VERSION_MISMATCH }
	s := source(t, lib)
	_, err := s.Inventory(t.Context())
	require.ErrorContains(t, err, "driver and library versions differ")
	require.NotErrorIs(t, err, hwdetect.ErrAbsent)
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Contains(t, reading.Fault, "reload the nvidia kernel module")
}

func TestUnloadedDriverIsAFault(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxa100.New())
	s := source(t, lib)
	_, err := s.Inventory(t.Context())
	require.NoError(t, err)
	gpu(lib, 0).GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	_, err = s.Telemetry(t.Context())
	require.NoError(t, err)
	lib.InitFunc = func() nvml.Return { return nvml.ERROR_DRIVER_NOT_LOADED }
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Contains(t, reading.Fault, "the NVIDIA driver is not loaded")
}

func TestMIG(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxa100.New())
	partitioned, untouched := gpu(lib, 0), gpu(lib, 1)
	partitioned.MigMode, untouched.MigMode = nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE
	partitioned.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	partitioned.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 0 && i != 4 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return &mock.Device{
			GetUUIDFunc:       func() (string, nvml.Return) { return "MIG-" + string(rune('a'+i)), nvml.SUCCESS },
			GetNameFunc:       func() (string, nvml.Return) { return "NVIDIA A100-SXM4-40GB MIG 1g.5gb", nvml.SUCCESS },
			GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 4864 << 20}, nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	partitioned.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED
	}
	profile, ret := untouched.GetGpuInstanceProfileInfo(nvml.GPU_INSTANCE_PROFILE_3_SLICE)
	require.Equal(t, nvml.SUCCESS, ret)
	_, ret = untouched.CreateGpuInstance(&profile)
	require.Equal(t, nvml.SUCCESS, ret)

	s := source(t, lib)
	inv, err := s.Inventory(t.Context())
	require.NoError(t, err)
	require.Equal(t, &hwdetect.MIG{Enabled: true, Instances: []hwdetect.MIGInstance{
		{Profile: "1g.5gb", UUID: "MIG-a", MemoryBytes: 4864 << 20},
		{Profile: "1g.5gb", UUID: "MIG-e", MemoryBytes: 4864 << 20},
	}}, inv.GPUs[0].MIG)
	require.Equal(t, int64(40<<30), inv.GPUs[0].MemoryBytes)
	require.False(t, inv.GPUs[0].Unified)
	require.Len(t, inv.GPUs[1].MIG.Instances, 1, "a GPU instance without a compute instance")
	require.Equal(t, "3g.20gb", inv.GPUs[1].MIG.Instances[0].Profile)
	require.Equal(t, &hwdetect.MIG{}, inv.GPUs[2].MIG)

	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, reading.Fault)
	require.Nil(t, reading.GPUs[0].UtilizationPct)
}

func TestXIDs(t *testing.T) {
	t.Parallel()
	lib := awakeServer(dgxh100.New())
	var queue []nvml.EventData
	var freed int
	lib.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
				if len(queue) == 0 {
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
				e := queue[0]
				queue = queue[1:]
				return e, nvml.SUCCESS
			},
			FreeFunc: func() nvml.Return { freed++; return nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	for i := range lib.Devices {
		gpu(lib, i).RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
	}
	s := NewFromLibrary(Config{}, lib)
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Nil(t, reading.GPUs[4].LastXID)

	queue = []nvml.EventData{
		{Device: lib.Devices[4], EventType: nvml.EventTypeXidCriticalError, EventData: 31},
		{Device: lib.Devices[4], EventType: nvml.EventTypeXidCriticalError, EventData: 79},
		{Device: lib.Devices[6], EventType: nvml.EventTypeSingleBitEccError, EventData: 5},
	}
	reading, err = s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(79), *reading.GPUs[4].LastXID)
	require.Nil(t, reading.GPUs[6].LastXID)
	require.NoError(t, s.Close())
	require.Equal(t, 1, freed)
}

func TestCallThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lib := awakeServer(dgxh100.New())
		release := make(chan struct{})
		gpu(lib, 3).GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			<-release
			return nvml.Utilization{}, nvml.SUCCESS
		}
		s := NewFromLibrary(Config{}, lib)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			start := time.Now()
			_, err := s.Telemetry(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 10*time.Second, time.Since(start))
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		_, err := s.Inventory(ctx)
		require.ErrorContains(t, err, "no answer for 45s while reading the GPUs")
		require.Len(t, gpu(lib, 3).GetUtilizationRatesCalls(), 1, "no second call while the first hangs")
		require.ErrorIs(t, s.Close(), context.DeadlineExceeded)

		close(release)
		synctest.Wait()
		require.Len(t, lib.ShutdownCalls(), 1, "the library shuts down when the call returns")
	})
}

func TestWithoutALibrary(t *testing.T) {
	t.Parallel()
	s := New(Config{Library: "libnvidia-ml-that-is-not-there.so.1"})
	_, err := s.Inventory(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)
	require.NoError(t, s.Close())
}

// A real shared library lacks most functions. Calling one would end the program.
// A library that is installed later is found.
func TestLibraryWithFewFunctions(t *testing.T) {
	t.Parallel()
	library := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	s := New(Config{Library: library})
	_, err := s.Inventory(t.Context())
	require.ErrorIs(t, err, hwdetect.ErrAbsent)

	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc" // cgo needs one
	}
	out, err := exec.Command(compiler, "-shared", "-fPIC", "-o", library, filepath.Join("testdata", "stub.c")).CombinedOutput()
	require.NoError(t, err, string(out))

	inv, err := s.Inventory(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.2.3", inv.DriverVersion)
	require.Equal(t, []hwdetect.GPU{{Model: "Stub", UUID: "GPU-stub", MemoryBytes: 3 << 30}}, inv.GPUs)
	reading, err := s.Telemetry(t.Context())
	require.NoError(t, err)
	require.Empty(t, reading.Fault)
	require.Equal(t, []hwdetect.GPUTelemetry{{MemoryUsedBytes: new(int64(1 << 30))}}, reading.GPUs)
	require.NoError(t, s.Close())
}

// BenchmarkTelemetry measures a reading of eight GPUs without the driver.
func BenchmarkTelemetry(b *testing.B) {
	lib := awakeServer(dgxh100.New())
	s := source(b, lib)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Telemetry(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
