package integrity

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

// linux is a machine with two CPUs.
func linux() fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"proc/stat":                            "cpu  100 20 30 400 50 6 7 13 99 0\ncpu0 1 2 3\n",
		"proc/uptime":                          "5174.80 4636.04\n",
		"proc/vmstat":                          "nr_free_pages 5\npswpin 3\npswpout 4\npgmajfault 53003\noom_kill 7\n",
		"proc/pressure/cpu":                    "some avg10=95.33 avg60=87.30 avg300=57.05 total=1615062290\n",
		"proc/pressure/memory":                 "some avg10=0.00 avg60=0.00 avg300=0.00 total=207969\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=59582\n",
		"proc/pressure/io":                     "some avg10=0.00 avg60=0.00 avg300=0.00 total=2\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
		"proc/sys/kernel/random/boot_id":       "8e6f\n",
		"sys/devices/system/cpu/smt/active":    "1\n",
		"sys/devices/system/cpu/cpufreq/boost": "0\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":  "powersave\n",
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor":  "performance\n",
		"sys/devices/system/cpu/cpu10/cpufreq/scaling_governor": "powersave\n",
		"sys/devices/system/cpu/cpu0/microcode/version":         "0x2b000603\n",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

func TestStateOfALinuxMachine(t *testing.T) {
	t.Parallel()
	s, err := NewMachine(MachineConfig{Root: linux()}).State(t.Context())
	require.NoError(t, err)
	require.Empty(t, s.Gaps)
	require.Equal(t, "8e6f", s.BootID)
	require.Equal(t, HostState{
		Uptime:   new(5174*time.Second + 800*time.Millisecond),
		CPUTicks: new(int64(626)), StealTicks: new(int64(13)),
		Pressure: Pressure{
			CPUSome:    new(1615062290 * time.Microsecond),
			MemorySome: new(207969 * time.Microsecond), MemoryFull: new(59582 * time.Microsecond),
			IOSome: new(2 * time.Microsecond), IOFull: new(time.Microsecond),
		},
		SwapInPages: new(int64(3)), MajorFaults: new(int64(53003)), OOMKills: new(int64(7)),
		Governors: []string{"performance", "powersave"}, Turbo: new(false), SMT: new(true), Microcode: "0x2b000603",
	}, s.Host)
}

// What cannot be read is named, and is no error.
func TestStateNamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	gpus := &hwdetecttest.Fake{}
	gpus.SetCounters(hwdetect.Counters{}, hwdetect.ErrAbsent)
	m := NewMachine(MachineConfig{Root: fstest.MapFS{"proc/stat": {Data: []byte("cpu 1 2\n")}}, Counters: gpus})
	s, err := m.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, HostState{}, s.Host)
	var what []string
	for _, g := range s.Gaps {
		what = append(what, g.What)
		require.NotEmpty(t, g.Reason)
	}
	require.Equal(t, []string{"psi", "steal", "swap_in", "governor", "gpu_counters"}, what)
	require.Contains(t, s.Gaps[4].Reason, "NVML")

	_, err = NewMachine(MachineConfig{Root: fstest.MapFS{}}).State(t.Context())
	require.ErrorContains(t, err, "there is no /proc", "nothing could be read")
}

// GPUs that hang cost their own counters and no others.
func TestStateWithHangingGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s, err := NewMachine(MachineConfig{Root: linux(), Counters: hanging{}}).State(ctx)
		require.NoError(t, err)
		require.NotNil(t, s.Host.StealTicks)
		require.Equal(t, []Gap{{What: "gpu_counters", Reason: "no answer in time"}}, s.Gaps)
	})
}

type hanging struct{}

func (hanging) Counters(ctx context.Context) (hwdetect.Counters, error) {
	<-ctx.Done()
	return hwdetect.Counters{}, context.Cause(ctx)
}

// A sample says when its readings were taken.
func TestSampleHasTheTimeOfItsReadings(t *testing.T) {
	t.Parallel()
	gpus := &hwdetecttest.Fake{}
	m := NewMachine(MachineConfig{Root: linux(), Telemetry: gpus})
	at := time.Now().Add(-time.Minute)
	gpus.SetTelemetry(hwdetect.Telemetry{Time: at, GPUs: make([]hwdetect.GPUTelemetry, 2)}, nil)
	s, err := m.Sample(t.Context())
	require.NoError(t, err)
	require.Len(t, s.GPUs, 2)
	require.Equal(t, at, s.GPUTime)
	require.Equal(t, 59582*time.Microsecond, *s.MemoryFull)
	gone := errors.New("GPU 1 is gone")
	gpus.SetTelemetry(hwdetect.Telemetry{}, gone)
	s, err = m.Sample(t.Context())
	require.ErrorIs(t, err, gone)
	require.NotNil(t, s.Uptime)
}

func FuzzHostFiles(f *testing.F) {
	for _, file := range linux() {
		f.Add(string(file.Data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		root := linux()
		for _, file := range root {
			file.Data = []byte(text)
		}
		s, err := NewMachine(MachineConfig{Root: root}).State(t.Context())
		require.NoError(t, err)
		for _, d := range []*time.Duration{s.Host.Uptime, s.Host.CPUSome, s.Host.MemorySome, s.Host.MemoryFull, s.Host.IOSome, s.Host.IOFull} {
			require.True(t, d == nil || *d >= 0)
		}
		if s.Host.CPUTicks != nil {
			require.LessOrEqual(t, *s.Host.StealTicks, *s.Host.CPUTicks)
		}
		for _, n := range []*int64{s.Host.SwapInPages, s.Host.MajorFaults, s.Host.OOMKills} {
			require.True(t, n == nil || *n >= 0)
		}
	})
}
