package hwdetect

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func FuzzSMI(f *testing.F) {
	f.Add([]byte("0, NVIDIA L4, GPU-1, 00000000:01:00.0, 23034, 72.00, 550.54.15, 8.9, [N/A]\n"))
	f.Add([]byte("GPU 0: A (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\n"))
	f.Add([]byte("\x1b[4mGPU0\tGPU1\nGPU0\t X \tNV4\n"))
	f.Add([]byte("<nvidia_smi_log><gpu id=\"1\"><fb_memory_usage><total>N/A</total></fb_memory_usage></gpu></nvidia_smi_log>"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, g := range parseSMICSV(out).GPUs {
			require.GreaterOrEqual(t, g.MemoryBytes, int64(0))
			require.GreaterOrEqual(t, g.PowerLimitW, 0.0)
		}
		for _, slices := range parseSMIList(out) {
			for _, s := range slices {
				require.GreaterOrEqual(t, s.MemoryBytes, int64(0))
			}
		}
		parseSMITopology(out)
		if log, err := parseSMIXML(out); err == nil {
			log.inventory()
			for _, g := range log.telemetry().GPUs {
				if g.MemoryUsedBytes != nil {
					require.GreaterOrEqual(t, *g.MemoryUsedBytes, int64(0))
				}
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add("processor : 0\nmodel name : x\n")
	f.Add("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	f.Add("MemTotal: 1 kB\n")
	f.Add(string(memoryDevice(1, 0x22)))
	f.Add("#define CUDA_VERSION 12040\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := fstest.MapFS{}
		for _, name := range []string{
			"proc/cpuinfo", "proc/meminfo", "proc/self/mountinfo", "proc/version", "sys/firmware/dmi/tables/DMI",
			"run/udev/data/+dmi:id", "usr/include/cuda.h", "usr/local/cuda/version.json", "proc/driver/nvidia/version",
			"proc/driver/nvidia/gpus/0000:01:00.0/information",
		} {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		s, err := New(Config{Root: root, ModelDir: "/x"})
		require.NoError(t, err)
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, m.MemoryBytes, int64(0))
		require.LessOrEqual(t, m.CPU.Cores, m.CPU.Threads)
		require.False(t, strings.Contains(m.MemoryType, " "))
		require.NoError(t, s.Close())
	})
}
