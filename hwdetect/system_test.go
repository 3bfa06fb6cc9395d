package hwdetect

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeSource is a Source whose answers a test chooses.
type fakeSource struct {
	inventory func(ctx context.Context) (Inventory, error)
	telemetry func(ctx context.Context) (Telemetry, error)
}

func (f fakeSource) Name() string                                     { return "fake" }
func (f fakeSource) Inventory(ctx context.Context) (Inventory, error) { return f.inventory(ctx) }
func (f fakeSource) Telemetry(ctx context.Context) (Telemetry, error) { return f.telemetry(ctx) }

// h100 is what a source knows of one H100.
func h100() Inventory {
	return Inventory{
		GPUs:          []GPU{{Model: "NVIDIA H100 80GB HBM3", UUID: "GPU-1", PCIBus: "0000:1b:00.0", MemoryBytes: 81559 << 20, ComputeCapability: "9.0"}},
		DriverVersion: "550.54.15", CUDADriver: "12.4",
	}
}

// hangs waits for the end of ctx, and a little longer, as a process does that
// must be killed first.
func hangs(ctx context.Context, _ ...string) ([]byte, error) {
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond)
	return nil, ctx.Err()
}

// deafFS is a file system of which one file hangs whatever the caller does.
type deafFS struct {
	fs.FS
	name string
	wake chan struct{}
	hung *atomic.Int32
}

func (d deafFS) Open(name string) (fs.File, error) {
	if name == d.name {
		d.hung.Add(1)
		<-d.wake
	}
	return d.FS.Open(name)
}

var smallMachine = fstest.MapFS{
	"proc/meminfo":              {Data: []byte("MemTotal:       1048576 kB\n")},
	"proc/cpuinfo":              {Data: []byte("processor: 0\nvendor_id: x\nmodel name: Fast CPU\n")},
	"proc/sys/kernel/osrelease": {Data: []byte("6.8.0\n")},
	"proc/self/mountinfo":       {Data: []byte("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")},
}

func TestHangingToolCostsItsOwnAnswerAndUnderTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := fakeSource{inventory: func(ctx context.Context) (Inventory, error) { _, err := hangs(ctx); return Inventory{}, err }}
		s, err := New(Config{Root: smallMachine, Sources: []Source{slow}, NVIDIASMI: hangs})
		require.NoError(t, err)
		start := time.Now()
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.Less(t, time.Since(start), 2*time.Second)
		require.Equal(t, "unknown-1c_1GB_Linux-6.8.0", (&Machine{CPU: CPU{Threads: m.CPU.Threads}, MemoryBytes: m.MemoryBytes, OS: m.OS}).Fingerprint())
		var late []string
		for _, g := range m.Gaps {
			if g.Late {
				late = append(late, g.What)
			}
		}
		require.Equal(t, []string{"fake", "nvidia-smi"}, late)
		require.True(t, m.Late())
		require.NoError(t, s.Close())
	})
}

func TestHangingSourceLeavesTimeForNVIDIASMI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := fakeSource{inventory: func(ctx context.Context) (Inventory, error) { _, err := hangs(ctx); return Inventory{}, err }}
		s, err := New(Config{Root: smallMachine, Sources: []Source{slow}, NVIDIASMI: func(ctx context.Context, args ...string) ([]byte, error) {
			if args[0] == smiXML[0] {
				return nil, errors.New("no XML today")
			}
			time.Sleep(300 * time.Millisecond)
			return []byte("0, NVIDIA L4, GPU-1, 00000000:01:00.0, 23034, 72.00, 550.54.15, 8.9, [N/A]\n"), nil
		}})
		require.NoError(t, err)
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.Len(t, m.GPUs, 1)
		require.Equal(t, int64(23034<<20), m.GPUs[0].MemoryBytes)
		require.NoError(t, s.Close())
	})
}

func TestProbeThatHangsForEverIsNotStartedTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		root := deafFS{smallMachine, "proc/self/mountinfo", make(chan struct{}), new(atomic.Int32)}
		s, err := New(Config{Root: root, ModelDir: "/models"})
		require.NoError(t, err)
		for range 3 {
			start := time.Now()
			m, err := s.Detect(t.Context())
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(start), 1500*time.Millisecond)
			require.Equal(t, "Fast CPU", m.CPU.Model, "the others are none the worse")
			require.True(t, m.Gaps[len(m.Gaps)-1].Late)
			require.Equal(t, "storage", m.Gaps[len(m.Gaps)-1].What)
			time.Sleep(time.Minute)
		}
		require.Equal(t, int32(1), root.hung.Load())
		require.ErrorContains(t, s.Close(), "stuck")

		close(root.wake)
		synctest.Wait()
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.False(t, m.Gaps[len(m.Gaps)-1].Late, "it answers again")
	})
}

func TestDetectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Root: smallMachine, NVIDIASMI: hangs})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err = s.Detect(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 100*time.Millisecond, time.Since(start))
		require.NoError(t, s.Close())
	})
}

func TestDetectAfterOneThatWasCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, _ ...string) ([]byte, error) {
			time.Sleep(200 * time.Millisecond)
			return nil, errors.New("no driver")
		}
		s, err := New(Config{Root: smallMachine, NVIDIASMI: slow})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err = s.Detect(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.False(t, m.Late(), "it waits for the first one's probe, and then looks itself")
		require.NoError(t, s.Close())
	})
}

func TestSourcesCompleteOneAnother(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{"proc/driver/nvidia/gpus/0000:1b:00.0/information": {Data: []byte("Model: NVIDIA H100 80GB HBM3\nGPU UUID: GPU-1\n")}}
	for name, data := range smallMachine {
		root[name] = data
	}
	var ran atomic.Int32
	run := func(context.Context, ...string) ([]byte, error) { ran.Add(1); return nil, ErrAbsent }
	whole := fakeSource{inventory: func(context.Context) (Inventory, error) { return h100(), nil }}
	s, err := New(Config{Root: root, Sources: []Source{whole}, NVIDIASMI: run})
	require.NoError(t, err)
	m, err := s.Detect(t.Context())
	require.NoError(t, err)
	require.Len(t, m.GPUs, 1)
	require.Zero(t, ran.Load(), "no command is run when NVML knows it all")

	half := fakeSource{inventory: func(context.Context) (Inventory, error) {
		inv := h100()
		inv.GPUs[0].Model, inv.DriverVersion = "", ""
		inv.Gaps = []Gap{{What: "model", Reason: "no answer"}}
		return inv, nil
	}}
	s, err = New(Config{Root: root, Sources: []Source{half}, NVIDIASMI: run})
	require.NoError(t, err)
	m, err = s.Detect(t.Context())
	require.NoError(t, err)
	require.Len(t, m.GPUs, 1)
	require.Equal(t, "NVIDIA H100 80GB HBM3", m.GPUs[0].Model)
	require.Equal(t, int64(81559<<20), m.GPUs[0].MemoryBytes)
	require.Contains(t, m.Gaps, Gap{What: "model", Reason: "no answer"})
}

// Whatever sources know, nothing that one of them knows is lost, and no GPU is
// counted twice.
func TestAddingInventoriesLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "gpus")
		full := Inventory{DriverVersion: "1.2", CUDADriver: "3.4"}
		for i := range n {
			full.GPUs = append(full.GPUs, GPU{Index: i, Model: "M", UUID: uuid(1, uint64(i)), PCIBus: "bus" + uuid(2, uint64(i)), MemoryBytes: int64(i + 1), ComputeCapability: "9.0", PowerLimitW: 1})
		}
		var sum Inventory
		var known [8]struct{ model, memory, seen bool }
		for range rapid.IntRange(1, 4).Draw(t, "sources") {
			var part Inventory
			for i, g := range full.GPUs {
				if !rapid.Bool().Draw(t, "sees") {
					continue
				}
				known[i].seen = true
				if rapid.Bool().Draw(t, "no model") {
					g.Model = ""
				} else {
					known[i].model = true
				}
				if rapid.Bool().Draw(t, "no memory") {
					g.MemoryBytes = 0
				} else {
					known[i].memory = true
				}
				part.GPUs = append(part.GPUs, g)
			}
			sum.add(part)
		}
		want := 0
		for i := range n {
			if known[i].seen {
				want++
			}
		}
		require.Len(t, sum.GPUs, want)
		for _, g := range full.GPUs {
			if !known[g.Index].seen {
				continue
			}
			got := sum.find(g)
			require.NotNil(t, got)
			require.Equal(t, known[g.Index].model, got.Model != "")
			require.Equal(t, known[g.Index].memory, got.MemoryBytes == g.MemoryBytes)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{ProbeTimeout: 3 * time.Second})
	require.ErrorContains(t, err, "ProbeTimeout")
}

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

func TestMemTotal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		meminfo string
		want    int64
		err     string
	}{
		{"MemTotal:       125513916 kB\nMemFree: 9 kB\n", 128526249984, ""},
		{"MemFree: 9 kB\n", 0, "no MemTotal"},
		{"MemTotal: much\n", 0, "cannot read"},
		{"MemTotal: 99999999999999999 kB\n", 0, "cannot read"},
		{"MemTotal: -1 kB\n", 0, "cannot read"},
	} {
		got, err := memTotal(fstest.MapFS{"proc/meminfo": {Data: []byte(tt.meminfo)}})
		require.Equal(t, tt.want, got)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err)
		} else {
			require.NoError(t, err)
		}
	}
	_, err := memTotal(fstest.MapFS{})
	require.EqualError(t, err, "proc/meminfo: no such file")
}

// memoryDevice is an SMBIOS structure of type 17 with a size and a kind.
func memoryDevice(size uint16, kind byte) []byte {
	s := make([]byte, 0x28)
	s[0], s[1] = 17, 0x28
	s[0x0c], s[0x0d], s[0x12] = byte(size), byte(size>>8), kind
	return append(s, "DIMM 0\x00Samsung\x00\x00"...)
}

func TestMemoryType(t *testing.T) {
	t.Parallel()
	bios, err := hex.DecodeString("0018000001020003") // a BIOS structure, cut short
	require.NoError(t, err)
	bios = append(append(bios, make([]byte, 0x10)...), "vendor\x00\x00"...)
	table := func(parts ...[]byte) *fstest.MapFile {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		return &fstest.MapFile{Data: all}
	}
	end := []byte{127, 4, 0, 0, 0, 0}
	const dmi, mc = "sys/firmware/dmi/tables/DMI", "sys/devices/system/edac/mc/mc0/dimm1/dimm_mem_type"
	for _, tt := range []struct {
		name string
		root fstest.MapFS
		want string
	}{
		{"firmware, first socket empty", fstest.MapFS{dmi: table(bios, memoryDevice(0, 0x1a), memoryDevice(0x7fff, 0x22), end)}, "DDR5"},
		{"firmware, low power", fstest.MapFS{dmi: table(memoryDevice(1, 0x23))}, "LPDDR5"},
		{"firmware, nothing fitted", fstest.MapFS{dmi: table(bios, memoryDevice(0, 0x1a), end, memoryDevice(1, 0x1a))}, ""},
		{"firmware, broken", fstest.MapFS{dmi: table([]byte{17, 2, 0, 0, 0})}, ""},
		{"memory controller", fstest.MapFS{mc: {Data: []byte("Registered-DDR4\n")}}, "DDR4"},
		{"memory controller, low power", fstest.MapFS{mc: {Data: []byte("Low-Power-DDR4-RAM\n")}}, "LPDDR4"},
		{"udev comes first", fstest.MapFS{"run/udev/data/+dmi:id": {Data: []byte("E:MEMORY_DEVICE_3_TYPE=LPDDR5X\n")}, mc: {Data: []byte("RDDR4")}}, "LPDDR5X"},
		{"udev knows no kind", fstest.MapFS{"run/udev/data/+dmi:id": {Data: []byte("E:MEMORY_DEVICE_0_TYPE=RAM\n")}, mc: {Data: []byte("Unbuffered-DDR3\n")}}, "DDR3"},
		{"nothing", fstest.MapFS{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := memoryType(tt.root)
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.want == "", err != nil)
		})
	}
}

func TestFindMount(t *testing.T) {
	t.Parallel()
	const mounts = `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /data rw shared:1 - xfs /dev/sda2 rw
3 1 8:3 / /data\040disk rw - xfs /dev/sda3 rw
4 2 0:9 / /data/nas rw - nfs nas:/x rw
5 2 8:4 / /data/nas rw - ext4 /dev/sdb1 rw
broken line
`
	for dir, want := range map[string]string{
		"/": "8:1", "/home": "8:1", "/data": "8:2", "/data/x": "8:2", "/database": "8:1", "/data disk/m": "8:3", "/data/nas/m": "8:4",
	} {
		m, ok := findMount(mounts, dir)
		require.True(t, ok)
		require.Equal(t, want, m.device, dir)
	}
	_, ok := findMount("", "/")
	require.False(t, ok)
}

func TestResolve(t *testing.T) {
	t.Parallel()
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte(target)}
	}
	root := fstest.MapFS{
		"home/me/.kitt": link("/data/kitt"), "data": link("mnt/big"), "mnt/big/kitt": link("../real"),
		"loop/a": link("/loop/b"), "loop/b": link("/loop/a"),
	}
	require.Equal(t, "/mnt/real/models", resolve(root, "/home/me/.kitt/models"))
	require.Equal(t, "/plain/not/there", resolve(root, "/plain/./x/../not/there/"))
	require.NotEmpty(t, resolve(root, "/loop/a/x"), "a loop comes to an end")
}

func TestEnvironmentType(t *testing.T) {
	t.Parallel()
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, tt := range []struct {
		want string
		root fstest.MapFS
	}{
		{"dgx", fstest.MapFS{"etc/dgx-release": file("DGX Server"), ".dockerenv": file("")}},
		{"dgx_spark", fstest.MapFS{"etc/dgx-release": file("NVIDIA DGX SPARK")}},
		{"dgx_spark", fstest.MapFS{"etc/nvidia/nvidia-dgs.conf": file(""), "proc/version": file("Microsoft")}},
		{"wsl2", fstest.MapFS{"proc/version": file("Linux 5.15-WSL2"), ".dockerenv": file("")}},
		{"docker", fstest.MapFS{".dockerenv": file(""), "proc/1/cgroup": file("/lxc/x")}},
		{"container", fstest.MapFS{"proc/1/cgroup": file("4:cpu:/docker/abc")}},
		{"native_linux", fstest.MapFS{"proc/1/cgroup": file("0::/init.scope")}},
		{"native_linux", fstest.MapFS{}},
	} {
		require.Equal(t, tt.want, environmentType(tt.root))
	}
}

func TestCUDAToolkit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ file, text, want string }{
		{"usr/local/cuda/version.json", `{"cuda":{"version":"12.4.1"},"cuda_nvcc":{"version":"12.3.9"}}`, "12.3"},
		{"usr/local/cuda/version.json", `{"cuda":{"version":"12.4.1"}}`, "12.4"},
		{"usr/local/cuda/version.json", `{`, ""},
		{"usr/local/cuda/version.txt", "CUDA Version 10.2.89\n", "10.2"},
		{"usr/include/cuda.h", "#define CUDA_VERSION 13010\n", "13.1"},
		{"elsewhere", "", ""},
	} {
		got, err := cudaToolkit(fstest.MapFS{tt.file: {Data: []byte(tt.text)}})
		require.Equal(t, tt.want, got)
		require.Equal(t, tt.want == "", err != nil)
	}
}

func TestIntegratedGPU(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		model, capability string
		want              bool
	}{
		{"NVIDIA GB10", "12.1", true},
		{"NVIDIA GB10", "", true},
		{"Orin (nvgpu)", "8.7", true},
		{"NVIDIA Thor", "11.0", true},
		{"NVIDIA Thor", "", true},
		{"NVIDIA GH200 480GB", "9.0", false},
		{"NVIDIA GB200", "10.0", false},
		{"NVIDIA GB100", "", false},
		{"NVIDIA H100 80GB HBM3", "", false},
		{"NVIDIA GB10", "9.0", false},
	} {
		require.Equal(t, tt.want, IntegratedGPU(tt.model, tt.capability), tt.model)
	}
}

func TestSMIPlaceholders(t *testing.T) {
	t.Parallel()
	for text, unified := range map[string]bool{
		"[N/A]": true, "N/A": true, "[Not Supported]": true,
		"[Unknown Error]": false, "[GPU is lost]": false, "[Insufficient Permissions]": false, "ERR!": false, "": false, "0": false,
	} {
		g := GPU{Model: "NVIDIA GB10"}
		g.smiMemory(text)
		require.Equal(t, unified, g.Unified, text)
		require.Zero(t, g.MemoryBytes)
	}
	g := GPU{Model: "NVIDIA GB10", MIG: &MIG{Enabled: true}}
	g.smiMemory("[N/A]")
	require.False(t, g.Unified, "a MIG slice")
}

func FuzzSMI(f *testing.F) {
	f.Add([]byte("0, NVIDIA L4, GPU-1, 00000000:01:00.0, 23034, 72.00, 550.54.15, 8.9, [N/A]\n"))
	f.Add([]byte("GPU 0: A (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\n"))
	f.Add([]byte("\x1b[4mGPU0\tGPU1\nGPU0\t X \tNV4\n"))
	f.Add([]byte("<nvidia_smi_log><gpu id=\"1\"><fb_memory_usage><total>N/A</total></fb_memory_usage></gpu></nvidia_smi_log>"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, g := range parseSMITable(out).GPUs {
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
