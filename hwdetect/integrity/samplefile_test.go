package integrity

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// fullSample has a value in every column.
func fullSample(at time.Time, gpus int) Sample {
	s := Sample{Time: at.UTC(), Uptime: new(5174800 * time.Millisecond), Pressure: Pressure{
		CPUSome: new(time.Second), MemorySome: new(2 * time.Second), MemoryFull: new(3 * time.Second), IOSome: new(4 * time.Second), IOFull: new(5 * time.Second),
	}}
	for i := range gpus {
		s.GPUs = append(s.GPUs, hwdetect.GPUTelemetry{
			Index: i, UtilizationPct: new(97.0), MemoryUsedBytes: new(int64(71234) << 20), TemperatureC: new(64.0), MemoryTemperatureC: new(71.5),
			PowerW: new(612.34), SMClockMHz: new(1965), MemoryClockMHz: new(2619), PerformanceState: new(0),
			ThrottleReasons: []string{"sw_power_cap", "0x800"}, PCIeGen: new(5), PCIeWidth: new(16), ECCUncorrected: new(int64(0)), LastXID: new(int64(79)),
		})
	}
	return s
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, int(250*time.Millisecond), time.UTC)

func open(t testing.TB, path string) *SampleFile {
	f, err := OpenSampleFile(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// collect returns copies of all samples of a file.
func collect(t testing.TB, path string) (all []Sample, bad int) {
	bad, err := ReadSamples(path, func(s Sample) error {
		s.GPUs = append([]hwdetect.GPUTelemetry(nil), s.GPUs...)
		all = append(all, s)
		return nil
	})
	require.NoError(t, err)
	return all, bad
}

func TestSamplesReadAsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "telemetry.csv")
	f := open(t, path)
	want := []Sample{
		fullSample(noon, 8), fullSample(noon.Add(time.Second), 2), fullSample(noon.Add(2*time.Second), 0),
		{Time: noon.Add(3 * time.Second)},
		{Time: noon.Add(4 * time.Second), GPUs: []hwdetect.GPUTelemetry{{Index: 5}, {Index: 2, ThrottleReasons: []string{}}}},
	}
	for _, s := range want {
		require.NoError(t, f.Append(s))
	}
	got, bad := collect(t, path)
	require.Zero(t, bad)
	require.Equal(t, want, got)

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	require.True(t, strings.HasPrefix(lines[0], "timestamp, index, utilization.gpu [%], memory.used [MiB], temperature.gpu, "), lines[0])
	require.Equal(t, "2026/03/01 12:00:00.250, 0, 97, 71234, 64, 71.5, 612.34, 1965, 2619, 0, 0x0000000000000804, 5, 16, 0, 79, "+
		"5174800000, 1000000, 2000000, 3000000, 4000000, 5000000", lines[1])
}

// A program that is killed while it writes leaves a part of a line, at any byte.
func TestTornLastLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "telemetry.csv")
	f := open(t, path)
	require.NoError(t, f.Append(fullSample(noon, 1)))
	keep, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, f.Append(fullSample(noon.Add(time.Second), 1)))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for cut := range len(whole) {
		torn := filepath.Join(dir, "torn.csv")
		require.NoError(t, os.WriteFile(torn, whole[:cut], 0o600))
		again, err := OpenSampleFile(torn)
		require.NoError(t, err)
		require.NoError(t, again.Append(fullSample(noon.Add(2*time.Second), 1)))
		require.NoError(t, again.Close())
		got, bad := collect(t, torn)
		require.Zero(t, bad)
		want := []Sample{fullSample(noon.Add(2*time.Second), 1)}
		if cut >= len(keep) {
			want = append([]Sample{fullSample(noon, 1)}, want...)
		}
		require.Equal(t, want, got, "cut after %d bytes", cut)
	}
}

// A power cut can leave zeros or pieces in the middle.
func TestDamagedLinesAreCounted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "telemetry.csv")
	f := open(t, path)
	require.NoError(t, f.Append(fullSample(noon, 2)))
	for _, piece := range []string{strings.Repeat("\x00", 4096) + "\n", "12:00:01, 3\n", "\n", strings.Repeat("x", 3*maxHeader) + "\n"} {
		_, err := f.f.WriteString(piece)
		require.NoError(t, err)
	}
	require.NoError(t, f.Append(fullSample(noon.Add(time.Second), 2)))
	got, bad := collect(t, path)
	require.Equal(t, 4, bad)
	require.Equal(t, []Sample{fullSample(noon, 2), fullSample(noon.Add(time.Second), 2)}, got)
}

// A file of an older or newer version is continued with its own columns.
func TestOtherColumns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "telemetry.csv")
	require.NoError(t, os.WriteFile(path, []byte("timestamp, fan.speed [%], index, power.draw [W]\n2026/03/01 12:00:00.250, 40, 0, 99.5\n"), 0o600))
	require.NoError(t, open(t, path).Append(fullSample(noon.Add(time.Second), 1)))
	got, bad := collect(t, path)
	require.Zero(t, bad)
	require.Equal(t, []Sample{
		{Time: noon, GPUs: []hwdetect.GPUTelemetry{{PowerW: new(99.5)}}},
		{Time: noon.Add(time.Second), GPUs: []hwdetect.GPUTelemetry{{PowerW: new(612.34)}}},
	}, got)
}

func TestSampleFileRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), []byte("hello\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "long"), bytes.Repeat([]byte("x"), 3*maxHeader), 0o600))
	require.NoError(t, os.Symlink("text", filepath.Join(dir, "link")))
	for _, name := range []string{"pipe", "text", "long", "link", "absent/x"} {
		_, err := OpenSampleFile(filepath.Join(dir, name))
		require.Error(t, err, name)
	}
	text, err := os.ReadFile(filepath.Join(dir, "text"))
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(text), "what is not ours stays")
	_, err = ReadSamples(filepath.Join(dir, "absent"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)

	f := open(t, filepath.Join(dir, "telemetry.csv"))
	f.size = MaxSampleFile - 10
	require.ErrorIs(t, f.Append(fullSample(noon, 1)), ErrSampleFileFull)
	require.NoError(t, f.Close(), "twice is no error")

	stop := errors.New("stop")
	g := open(t, filepath.Join(dir, "other.csv"))
	require.NoError(t, g.Append(fullSample(noon, 1)))
	_, err = ReadSamples(filepath.Join(dir, "other.csv"), func(Sample) error { return stop })
	require.ErrorIs(t, err, stop)
}

func FuzzSampleFile(f *testing.F) {
	header := newTable().header()
	f.Add([]byte(header + string(newTable().append(nil, new(fullSample(noon, 2))))))
	f.Add([]byte("timestamp, index\n2026/03/01 12:00:00.250, 0\n2026/03/01 12:00:00.250, 0\n"))
	f.Add([]byte("timestamp, else, index, power.draw [W]\n2026/03/01 12:00:00.250, 7, [N/A], NaN\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		first, second := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		require.NoError(t, errors.Join(ignoreMissing(os.Remove(first)), ignoreMissing(os.Remove(second))))
		var all []Sample
		_, err := readSamples(bytes.NewReader(text), func(s Sample) error {
			s.GPUs = append([]hwdetect.GPUTelemetry(nil), s.GPUs...)
			all = append(all, s)
			return nil
		})
		if err == nil { // what was read reads the same when it is written again
			out := open(t, first)
			for _, s := range all {
				require.NoError(t, out.Append(s))
			}
			again, bad := collect(t, first)
			require.Zero(t, bad)
			require.Len(t, again, len(all))
		}
		require.NoError(t, os.WriteFile(second, text, 0o600))
		if file, err := OpenSampleFile(second); err == nil {
			require.NoError(t, file.Append(fullSample(noon, 1)))
			require.NoError(t, file.Close())
			got, err := os.ReadFile(second)
			require.NoError(t, err)
			require.Equal(t, byte('\n'), got[len(got)-1])
		}
	})
}

// BenchmarkSample is what one sample costs of one core, with eight GPUs: reading the
// host's files and the fake GPUs, and appending to the file.
func BenchmarkSample(b *testing.B) {
	profile, _ := hwdetect.Profile("h100-8")
	gpus := hwdetect.Static{Machine: profile, Load: func() float64 { return 1 }}
	m := NewMachine(MachineConfig{Telemetry: gpus, Counters: gpus})
	f := open(b, filepath.Join(b.TempDir(), "telemetry.csv"))
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		s, err := m.Sample(b.Context())
		require.NoError(b, err)
		if f.Append(s) != nil {
			f.size = 0 // more samples than one run has
		}
	}
	perSample := (cpuTime(b) - start) / time.Duration(b.N)
	b.ReportMetric(float64(perSample.Microseconds()), "cpu-us/sample")
	b.ReportMetric(perSample.Seconds()*100, "%core-at-1Hz")
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
