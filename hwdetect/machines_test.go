package hwdetect_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func recording(t testing.TB, name string) *hwdetecttest.Recording {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	require.NoError(t, err)
	r, err := hwdetecttest.ParseRecording(string(text))
	require.NoError(t, err)
	return r
}

func system(t testing.TB, cfg hwdetect.Config) *hwdetect.System {
	t.Helper()
	s, err := hwdetect.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestMachines describes every machine in testdata. It checks the important facts
// here and the whole description against a file in testdata/golden.
func TestMachines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		models      string
		fingerprint string
		check       func(t *testing.T, m *hwdetect.Machine)
	}{
		{
			name: "a100-1", models: "/srv/models",
			fingerprint: "NVIDIA-A100-SXM4-40GB-40GB_AMD-Processor-64c_504GB-DDR4_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_CUDA-12.4_550.54.15_Linux-5.15.0-140-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "native_linux", m.EnvironmentType)
				require.Equal(t, "amd64", m.CPU.Arch)
				require.Equal(t, 32, m.CPU.Cores)
				require.Equal(t, "12.4", m.CUDADriver)
				require.Equal(t, &hwdetect.MIG{}, m.GPUs[0].MIG)
				require.Empty(t, m.Gaps)
			},
		},
		{
			name: "h100-8", models: "/raid/models",
			fingerprint: "NVIDIA-H100-80GB-HBM3-80GB-8x_Intel(R)-8480C-224c_2016GB-DDR5_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_CUDA-12.4_550.54.15_Linux-5.15.0-1042-nvidia",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "dgx", m.EnvironmentType)
				require.Equal(t, hwdetect.CPU{Model: "Intel(R) Xeon(R) Platinum 8480C", Arch: "amd64", Cores: 112, Threads: 224, Sockets: 2}, m.CPU)
				require.Equal(t, "0000:9d:00.0", m.GPUs[4].PCIBus)
				require.Equal(t, []int{0, 1, 2, 3, 5, 6, 7}, m.GPUs[4].NVLinkPeers)
				require.Equal(t, 700.0, m.GPUs[4].PowerLimitW)
				require.Empty(t, m.Gaps)
			},
		},
		{
			name:        "h100-8",
			fingerprint: "NVIDIA-H100-80GB-HBM3-80GB-8x_Intel(R)-8480C-224c_2016GB-DDR5_Samsung-SAMSUNG-MZ1L21T9HCLS-00A07-NVME_CUDA-12.4_550.54.15_Linux-5.15.0-1042-nvidia",
		},
		{
			name: "a100-mig", models: "/",
			fingerprint: "NVIDIA-A100-SXM4-40GB-40GB_AMD-Processor-64c_504GB_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_550.54.15_Linux-5.15.0-140-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, &hwdetect.MIG{Enabled: true, Instances: []hwdetect.MIGInstance{
					{Profile: "3g.20gb", UUID: "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde", MemoryBytes: 19968 << 20},
					{Profile: "2g.10gb", UUID: "MIG-56c30729-347f-5dd6-8da0-c3cc59e969e0", MemoryBytes: 9856 << 20},
					{Profile: "1g.5gb", UUID: "MIG-9d14fb21-4ae1-546f-a636-011582899c39", MemoryBytes: 4864 << 20},
				}}, m.GPUs[0].MIG)
				require.False(t, m.GPUs[0].Unified)
			},
		},
		{
			name: "dgx-spark", models: "/home/nvidia/.kitt/models",
			fingerprint: "NVIDIA-GB10-120GB_Cortex-X925-20c_120GB-DDR5_Samsung-SAMSUNG-MZALC4T0HBL1-00B07-NVME_CUDA-13.0_580.95.05_Linux-6.11.0-1016-nvidia",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "dgx_spark", m.EnvironmentType)
				require.Equal(t, "arm64", m.CPU.Arch)
				require.True(t, m.GPUs[0].Unified)
				require.Equal(t, m.MemoryBytes, m.GPUs[0].MemoryBytes)
				require.Equal(t, "LPDDR5", m.MemoryType)
				require.Nil(t, m.GPUs[0].MIG)
				require.Empty(t, m.Gaps)
			},
		},
		{
			name: "wsl2", models: "/root",
			fingerprint: "NVIDIA-GeForce-RTX-4090-24GB_AMD-Processor-32c_31GB_Unknown-Virtual-Disk-SSD_572.83_Linux-5.15.167.4-microsoft-standard-WSL2",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "wsl2", m.EnvironmentType)
			},
		},
		{
			name: "laptop", models: "/home/me/.kitt/models",
			fingerprint: "12th-i7-1260P-16c_15GB-DDR5_WD-WD_BLACK-SN850X-1000GB-NVME_Linux-6.11.0-26-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Empty(t, m.GPUs)
				require.Contains(t, m.Gaps, hwdetect.Gap{What: "gpus", Reason: "no NVIDIA GPU: no driver is loaded, and no card is on the PCI bus"})
			},
		},
		{
			name: "container", models: "/models/llama",
			fingerprint: "NVIDIA-L40S-45GB_AMD-Processor-64c_756GB_Unknown-KIOXIA-KCD8DRUG3T84-NVME_570.133.20_Linux-6.8.0-60-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "docker", m.EnvironmentType)
				requireGap(t, m, "storage", "/models/llama is on nas:/models (nfs4), which is not a local disk; using the first disk, nvme0n1")
			},
		},
		{
			name: "grace-hopper", models: "/",
			fingerprint: "NVIDIA-GH200-480GB-96GB_Neoverse-V2-72c_573GB_Samsung-SAMSUNG-MZTL23T8HCLS-00A07-NVME_570.133.20_Linux-6.8.0-1025-nvidia-64k",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "arm64", m.CPU.Arch)
				require.Equal(t, 72, m.CPU.Cores)
				require.False(t, m.GPUs[0].Unified, "a discrete GPU keeps its own memory")
			},
		},
		{
			name: "broken-driver", models: "/",
			fingerprint: "NVIDIA-A100-SXM4-40GB_AMD-Processor-64c_504GB_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_550.54.15_Linux-5.15.0-140-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Len(t, m.GPUs, 1, "the kernel module still lists it")
				require.Zero(t, m.GPUs[0].MemoryBytes)
				require.False(t, m.GPUs[0].Unified)
				requireGap(t, m, "nvidia-smi", "Driver/library version mismatch")
			},
		},
		{
			name: "no-driver", models: "/home/models",
			fingerprint: "AMD-Processor-32c_126GB_Unknown-ST4000NM000A-2HZ-SSD_Linux-6.8.0-60-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Empty(t, m.GPUs)
				require.Equal(t, "hdd", m.Storage.Type)
				requireGap(t, m, "gpus", "an NVIDIA GPU is on the PCI bus at 0000:01:00.0, 0000:02:00.0, but no driver is loaded for it")
				requireGap(t, m, "nvidia-smi", "couldn't communicate with the NVIDIA driver")
			},
		},
		{
			name: "no-driver", models: "/var/lib/models",
			fingerprint: "AMD-Processor-32c_126GB_Samsung-Samsung-SSD-870-EVO-1TB-SSD_Linux-6.8.0-60-generic",
		},
		{
			name: "lost-gpu", models: "/",
			fingerprint: "NVIDIA-H100-80GB-HBM3-80GB-3x_Intel(R)-8480C-112c_504GB_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_550.54.15_Linux-6.8.0-60-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Len(t, m.GPUs, 3)
				requireGap(t, m, "gpus", "GPU is lost")
			},
		},
		{
			name: "virtual-machine", models: "/",
			fingerprint: "AMD-EPYC-2c_24GB_Linux-6.18.44",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "docker", m.EnvironmentType)
				require.Equal(t, hwdetect.CPU{Model: "AMD EPYC", Arch: "amd64", Cores: 2, Threads: 2, Sockets: 1}, m.CPU)
				requireGap(t, m, "storage", "disk vda has no model name")
			},
		},
		{
			name: "old-driver", models: "/",
			fingerprint: "Tesla-T4-15GB_Intel(R)-2.50GHz-8c_31GB_CUDA-11.4_470.256.02_Linux-5.4.0-216-generic",
			check: func(t *testing.T, m *hwdetect.Machine) {
				require.Equal(t, "container", m.EnvironmentType)
				require.Empty(t, m.GPUs[0].ComputeCapability)
				require.Equal(t, "11.4", m.CUDADriver)
			},
		},
	} {
		name := strings.Trim(tt.name+strings.ReplaceAll(tt.models, "/", "-"), "-")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := recording(t, tt.name).Config()
			cfg.ModelDir = tt.models
			s := system(t, cfg)
			m, err := s.Detect(t.Context())
			require.NoError(t, err)
			require.Equal(t, tt.fingerprint, m.Fingerprint())
			if tt.check != nil {
				tt.check(t, m)
			}
			require.NoError(t, hwdetecttest.TestDetector(t.Context(), s))
			require.NoError(t, hwdetecttest.TestTelemetryReader(t.Context(), s))

			got, err := json.MarshalIndent(m, "", "  ")
			require.NoError(t, err)
			golden(t, name+".json", append(got, '\n'))
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func requireGap(t *testing.T, m *hwdetect.Machine, what, reason string) {
	t.Helper()
	for _, g := range m.Gaps {
		if g.What == what && strings.Contains(g.Reason, reason) {
			return
		}
	}
	require.Failf(t, "no such gap", "%s: %s\nin %+v", what, reason, m.Gaps)
}

func TestTelemetryThroughNVIDIASMI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		check func(t *testing.T, r hwdetect.Telemetry)
	}{
		{"h100-8", func(t *testing.T, r hwdetect.Telemetry) {
			require.Len(t, r.GPUs, 8)
			require.Equal(t, hwdetect.GPUTelemetry{
				Index: 2, UtilizationPct: new(20.0), MemoryUsedBytes: new(int64(2000 << 20)), TemperatureC: new(41.0),
				PowerW: new(118.54), ThrottleReasons: []string{"sw_power_cap"}, ECCUncorrected: new(int64(0)),
			}, r.GPUs[2])
			mean, ok := r.UtilizationPct()
			require.True(t, ok)
			require.Equal(t, 35.0, mean)
		}},
		{"dgx-spark", func(t *testing.T, r hwdetect.Telemetry) {
			require.Equal(t, int64(20992<<20), *r.GPUs[0].MemoryUsedBytes, "the sum over the processes")
			require.Nil(t, r.GPUs[0].ECCUncorrected)
			require.Equal(t, 4.51, *r.GPUs[0].PowerW)
		}},
		{"a100-mig", func(t *testing.T, r hwdetect.Telemetry) {
			require.Nil(t, r.GPUs[0].UtilizationPct)
			require.Empty(t, r.Fault)
		}},
		{"broken-driver", func(t *testing.T, r hwdetect.Telemetry) {
			require.Contains(t, r.Fault, "Driver/library version mismatch")
		}},
		{"lost-gpu", func(t *testing.T, r hwdetect.Telemetry) { require.Contains(t, r.Fault, "GPU is lost") }},
		{"laptop", func(t *testing.T, r hwdetect.Telemetry) {
			require.Empty(t, r.GPUs)
			require.Empty(t, r.Fault)
			require.False(t, r.Time.IsZero())
		}},
		{"no-driver", func(t *testing.T, r hwdetect.Telemetry) { require.Empty(t, r.Fault) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := recording(t, tt.name).Config()
			cfg.SMITelemetry = true
			r, err := system(t, cfg).Telemetry(t.Context())
			require.NoError(t, err)
			tt.check(t, r)
		})
	}
}

// BenchmarkDetect measures Detect on a machine with 224 CPUs and eight GPUs,
// without the time of real tools.
func BenchmarkDetect(b *testing.B) {
	cfg := recording(b, "h100-8").Config()
	cfg.ModelDir = "/raid/models"
	s := system(b, cfg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Detect(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDetectHere measures Detect on this machine.
func BenchmarkDetectHere(b *testing.B) {
	s := system(b, hwdetect.Config{ModelDir: "/"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Detect(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
