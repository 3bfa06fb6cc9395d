package hwdetect

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeSource is a Source with settable answers.
type fakeSource struct {
	inventory func(ctx context.Context) (Inventory, error)
	telemetry func(ctx context.Context) (Telemetry, error)
}

func (f fakeSource) Name() string { return "fake" }

func (f fakeSource) Inventory(ctx context.Context) (Inventory, error) { return f.inventory(ctx) }

func (f fakeSource) Telemetry(ctx context.Context) (Telemetry, error) { return f.telemetry(ctx) }

// h100 is what a source knows of one H100.
func h100() Inventory {
	return Inventory{
		GPUs:          []GPU{{Model: "NVIDIA H100 80GB HBM3", UUID: "GPU-1", PCIBus: "0000:1b:00.0", MemoryBytes: 81559 << 20, ComputeCapability: "9.0"}},
		DriverVersion: "550.54.15", CUDADriver: "12.4",
	}
}

// hangs waits until ctx is done and 50 ms longer, like a process that must be
// killed.
func hangs(ctx context.Context, _ ...string) ([]byte, error) {
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond)
	return nil, ctx.Err()
}

// A deafFS is a file system with a file that hangs until wake is closed.
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

func TestHangingToolCostsOneAnswerAndUnderTwoSeconds(t *testing.T) {
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
		var incomplete []string
		for _, g := range m.Gaps {
			if g.Incomplete {
				incomplete = append(incomplete, g.What)
			}
		}
		require.Equal(t, []string{"fake", "nvidia-smi"}, incomplete)
		require.True(t, m.Incomplete())
		require.NoError(t, s.Close())
	})
}

func TestHangingSourceLeavesTimeForNVIDIASMI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := fakeSource{inventory: func(ctx context.Context) (Inventory, error) { _, err := hangs(ctx); return Inventory{}, err }}
		s, err := New(Config{Root: smallMachine, Sources: []Source{slow}, NVIDIASMI: func(ctx context.Context, args ...string) ([]byte, error) {
			if args[0] == smiXML[0] {
				return nil, errors.New("no XML")
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
			require.Equal(t, "Fast CPU", m.CPU.Model, "other probes are not affected")
			require.True(t, m.Gaps[len(m.Gaps)-1].Incomplete)
			require.Equal(t, "storage", m.Gaps[len(m.Gaps)-1].What)
			time.Sleep(time.Minute)
		}
		require.Equal(t, int32(1), root.hung.Load())
		require.ErrorContains(t, s.Close(), "hangs")

		close(root.wake)
		synctest.Wait()
		m, err := s.Detect(t.Context())
		require.NoError(t, err)
		require.False(t, m.Gaps[len(m.Gaps)-1].Incomplete, "it answers again")
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

func TestDetectAfterACancelledOne(t *testing.T) {
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
		require.False(t, m.Incomplete(), "it waits for the first call's probe and then runs its own")
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
	require.Zero(t, ran.Load(), "no command is run if NVML has all answers")

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

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := New(Config{ProbeTimeout: 3 * time.Second})
	require.ErrorContains(t, err, "ProbeTimeout")
}
