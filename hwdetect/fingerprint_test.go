package hwdetect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFingerprint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		machine func() *Machine
		want    string
	}{
		{
			// The example of the protocol. Without hyper-threading the
			// processors have 112 logical CPUs.
			name: "eight H100",
			machine: func() *Machine {
				m, _ := Profile("h100-8")
				m.CPU.Threads = 112
				m.MemoryBytes = 2048 << 30
				return m
			},
			want: "NVIDIA-H100-80GB-HBM3-80GB-8x_Intel(R)-8480C-112c_2048GB-DDR5_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_CUDA-12.4_550.54.15_Linux-5.15.0-1042-nvidia",
		},
		{
			name: "what the Python agent sent for a container without GPU, CPU name or disk",
			machine: func() *Machine {
				return &Machine{CPU: CPU{Threads: 2}, MemoryBytes: 24 << 30, OS: "Linux-6.8.0-41-generic"}
			},
			want: "unknown-2c_24GB_Linux-6.8.0-41-generic",
		},
		{
			name: "unified memory is the RAM, low-power memory has its standard name",
			machine: func() *Machine {
				m, _ := Profile("dgx-spark")
				return m
			},
			want: "NVIDIA-GB10-120GB_Cortex-X925-20c_120GB-DDR5_Samsung-SAMSUNG-MZALC4T0HBL1-00B07-NVME_CUDA-13.0_580.95.05_Linux-6.11.0-1016-nvidia",
		},
		{
			name: "a GPU with unknown memory, a disk of an unknown brand",
			machine: func() *Machine {
				return &Machine{
					GPUs: []GPU{{Model: "NVIDIA A100-SXM4-40GB"}}, CPU: CPU{Model: "Neoverse-V2", Cores: 72},
					MemoryBytes: 480<<30 + 1, MemoryType: "LPDDR4", Storage: Storage{Model: "Ultra Star 7", Type: "hdd"}, OS: "Linux-6.8.0",
				}
			},
			want: "NVIDIA-A100-SXM4-40GB_Neoverse-V2-72c_480GB-DDR4_Unknown-Ultra-Star-7-SSD_Linux-6.8.0",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, tt.machine().Fingerprint())
		})
	}
}

func TestGiBRoundsToTheNearest(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 80, GiB(81559<<20))
	require.EqualValues(t, 0, GiB(1<<29-1))
	require.EqualValues(t, 1, GiB(1<<29))
}
