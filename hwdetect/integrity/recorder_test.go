package integrity_test

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
)

func newRecorder(t *testing.T, cfg integrity.RecorderConfig) *integrity.Recorder {
	t.Helper()
	r, err := integrity.NewRecorder(cfg)
	require.NoError(t, err)
	return r
}

func readReport(t *testing.T, dir string) integrity.Report {
	t.Helper()
	report, err := integrity.ReadReport(filepath.Join(dir, integrity.ReportFile))
	require.NoError(t, err)
	return report
}

// state returns a state of one GPU that was throttled for so long.
func state(throttled time.Duration) integrity.State {
	return integrity.State{BootID: "b", GPUs: []hwdetect.GPUCounters{{Index: 0, UUID: "GPU-0", HWThermal: &throttled}}}
}

func busy(pct float64) integrity.Sample {
	return integrity.Sample{GPUs: []hwdetect.GPUTelemetry{{Index: 0, UtilizationPct: &pct, SMClockMHz: new(1500)}}}
}

func TestRecordingOfAThrottledRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source integritytest.Fake
		source.SetState(state(time.Minute), nil)
		source.SetSample(busy(99), nil)
		dir, results := t.TempDir(), t.TempDir()
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{Dir: dir, Identity: map[string]string{"driver": "570"}})
		require.NoError(t, err)
		before := readReport(t, dir)
		require.Nil(t, before.End)
		require.Equal(t, time.Minute, *before.Start.GPUs[0].HWThermal, "the state is on disk before the benchmark begins")

		<-time.After(99500 * time.Millisecond)
		source.SetState(state(time.Minute+10*time.Second), nil)
		report, err := rec.End(t.Context(), time.Now(), map[string]string{"image": "kitt"})
		require.NoError(t, err)
		require.Equal(t, integrity.Invalid, report.Verdict.Grade)
		require.Contains(t, report.Verdict.Line(), "hardware thermal slowdown for 10.1% of 100 s on GPU 0")
		require.Equal(t, map[string]string{"driver": "570", "image": "kitt"}, report.Identity)
		require.Equal(t, 100, report.Samples.Count)
		require.Equal(t, 1500, report.Samples.GPUs[0].SMClock.MedianMHz)
		again, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, report, again, "a run ends once")

		require.NoError(t, integrity.Publish(dir, results))
		require.NoError(t, integrity.Publish(dir, results), "after a crash")
		require.Equal(t, integrity.Invalid, readReport(t, results).Verdict.Grade)
		summary, err := integrity.Summarize(filepath.Join(results, integrity.TelemetryFile))
		require.NoError(t, err)
		require.Equal(t, 100, summary.Count)
		require.NoFileExists(t, filepath.Join(dir, integrity.SamplesFile))
	})
}

// The program is killed three times during a run. Counters lose nothing; samples do, and
// the report says when.
func TestResumedRecording(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source integritytest.Fake
		source.SetState(state(0), nil)
		source.SetSample(busy(99), nil)
		dir := t.TempDir()
		run := integrity.Run{Dir: dir, Identity: map[string]string{"driver": "570"}}
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), run)
		require.NoError(t, err)
		for range 3 {
			<-time.After(10500 * time.Millisecond)
			rec.Detach()
			<-time.After(time.Minute)
			rec, err = newRecorder(t, integrity.RecorderConfig{Source: &source}).Resume(t.Context(), run)
			require.NoError(t, err)
		}
		source.SetState(state(50*time.Second), nil)
		<-time.After(10500 * time.Millisecond)
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, integrity.Invalid, report.Verdict.Grade)
		require.Contains(t, report.Verdict.Line(), "22.5% of 222 s")
		require.Equal(t, 44, report.Samples.Count)
		require.Len(t, report.Samples.Gaps, 3)
		require.Len(t, report.Gaps, 3)
		require.Equal(t, "the agent was not running", report.Gaps[0].Reason)
		require.Equal(t, 60500*time.Millisecond, report.Gaps[0].To.Sub(*report.Gaps[0].From))

		rec, err = newRecorder(t, integrity.RecorderConfig{Source: &source}).Resume(t.Context(), run)
		require.NoError(t, err)
		again, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, report.Verdict, again.Verdict, "what is judged is not judged again")
	})
}

func TestRecordingWithoutItsStart(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{"missing": "", "damaged": "{", "of another version": `{"schema": "kitt-agent/integrity/9"}`} {
		synctest.Test(t, func(t *testing.T) {
			var source integritytest.Fake
			source.SetState(state(0), nil)
			dir := t.TempDir()
			if text != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, integrity.ReportFile), []byte(text), 0o600))
			}
			rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Resume(t.Context(), integrity.Run{Dir: dir})
			require.NoError(t, err)
			<-time.After(10 * time.Second)
			report, err := rec.End(t.Context(), time.Now(), nil)
			require.NoError(t, err)
			require.Equal(t, integrity.Unjudged, report.Verdict.Grade, what)
			require.Equal(t, "Machine: unjudged - the state before the run is missing", report.Verdict.Line())
			require.Contains(t, report.Gaps[0].Reason, "the state before the run is not on disk")
		})
	}
}

// deaf is a source that ignores its context.
type deaf struct {
	integritytest.Fake
	release chan struct{}
}

func (d *deaf) Sample(ctx context.Context) (integrity.Sample, error) {
	<-d.release
	return d.Fake.Sample(ctx)
}

func (d *deaf) State(ctx context.Context) (integrity.State, error) {
	<-d.release
	return d.Fake.State(ctx)
}

// A source that hangs for a minute costs samples, and holds up nothing but the state.
func TestCallsThatHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := deaf{release: make(chan struct{})}
		dir := t.TempDir()
		start := time.Now()
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{Dir: dir})
		require.NoError(t, err)
		require.Equal(t, 10250*time.Millisecond, time.Since(start))
		<-time.After(time.Minute)
		close(source.release)
		<-time.After(10 * time.Second)
		start = time.Now()
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.InDelta(t, 10, report.Samples.Count, 1)
		require.Equal(t, "no answer within 10s", report.Start.Gaps[0].Reason)
	})
}

// The GPUs give no reading for a minute, as when a call into the driver hangs.
func TestSilentGPUsAreAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source integritytest.Fake
		source.SetState(state(0), nil)
		source.SetSample(busy(99), nil)
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{Dir: t.TempDir()})
		require.NoError(t, err)
		<-time.After(10500 * time.Millisecond)
		source.SetSample(integrity.Sample{}, errors.New("GPU 3 does not answer"))
		<-time.After(time.Minute)
		source.SetSample(busy(99), nil)
		<-time.After(10 * time.Second)
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, 81, report.Samples.Count)
		require.Len(t, report.Samples.Gaps, 1)
		gap := report.Samples.Gaps[0]
		require.Equal(t, "gpu_samples", gap.What)
		require.Equal(t, 61*time.Second, gap.To.Sub(*gap.From))
	})
}

// panics is a source that panics.
type panics struct{ integritytest.Fake }

func (*panics) Sample(context.Context) (integrity.Sample, error) { panic("bug") }

func TestASourceThatPanicsEndsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &panics{}}).Begin(t.Context(), integrity.Run{Dir: t.TempDir()})
		require.NoError(t, err)
		<-time.After(5 * time.Second)
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, "panic: bug", report.Gaps[0].Reason)
	})
}

// lists is a source that lists processes.
type lists struct {
	integritytest.Fake
	list func() []hwdetect.GPUProcess
}

func (l *lists) Processes(context.Context) ([]hwdetect.GPUProcess, error) { return l.list(), nil }

func TestForeignProcessesAndNeighbours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		source := lists{list: func() []hwdetect.GPUProcess {
			all := []hwdetect.GPUProcess{{PID: 10, SMPct: new(90.0)}}
			if at := time.Since(begun); at >= 20*time.Second && at < 40*time.Second {
				all = append(all, hwdetect.GPUProcess{PID: 66, Command: "train", Owner: "eve", SMPct: new(7.0)})
			}
			return all
		}}
		source.SetState(state(0), nil)
		dir := t.TempDir()
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{
			Dir: dir,
			Foreign: func(_ context.Context, all []hwdetect.GPUProcess) ([]hwdetect.GPUProcess, error) {
				return all[1:], nil
			},
			Neighbours: func() []string { return []string{"job b"} },
		})
		require.NoError(t, err)
		<-time.After(31 * time.Second)
		require.Len(t, readReport(t, dir).Foreign, 1, "a program that is killed now has seen it")
		<-time.After(30 * time.Second)
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.NoError(t, err)
		require.Equal(t, integrity.Invalid, report.Verdict.Grade)
		require.Equal(t, "Machine: INVALID - process 66 (train of eve) used up to 7% of the SMs on GPU 0", report.Verdict.Line())
		require.False(t, report.Foreign[0].Before)
		require.Equal(t, 20*time.Second, report.Foreign[0].First.Sub(begun))
		require.Equal(t, "job b", report.Neighbours[0].Name)
		require.Contains(t, report.Verdict.Reasons[1].Text, "job b ran for 100%")
	})
}

// A recording goes on if the disk takes nothing, and says what is missing.
func TestRecordingOnABrokenDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source integritytest.Fake
		source.SetState(state(0), nil)
		source.SetSample(busy(99), nil)
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{Dir: "/dev/null/x"})
		require.Error(t, err)
		<-time.After(5 * time.Second)
		report, err := rec.End(t.Context(), time.Now(), nil)
		require.Error(t, err)
		require.Equal(t, integrity.Valid, report.Verdict.Grade)
		require.Contains(t, report.Gaps[0].Reason, "samples are missing from the file")
	})
}

func TestPublishReplacesWhatABenchmarkForged(t *testing.T) {
	t.Parallel()
	dir, results := t.TempDir(), t.TempDir()
	require.NoError(t, integrity.Publish(dir, results), "nothing to publish")

	require.NoError(t, os.WriteFile(filepath.Join(dir, integrity.ReportFile), []byte("the proof"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, integrity.SamplesFile), []byte(strings.Repeat("sample\n", 1<<18)), 0o600))
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
	require.NoError(t, os.Symlink(victim, filepath.Join(results, integrity.ReportFile)))
	require.NoError(t, os.MkdirAll(filepath.Join(results, integrity.TelemetryFile+".gz", "x"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(results, integrity.TelemetryFile), []byte("forged"), 0o600))

	require.NoError(t, integrity.Publish(dir, results))
	text, err := os.ReadFile(filepath.Join(results, integrity.ReportFile))
	require.NoError(t, err)
	require.Equal(t, "the proof", string(text))
	text, err = os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "precious", string(text))
	require.NoFileExists(t, filepath.Join(results, integrity.TelemetryFile), "the real telemetry is compressed")
	f, err := os.Open(filepath.Join(results, integrity.TelemetryFile+".gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	text, err = io.ReadAll(z)
	require.NoError(t, err)
	require.Len(t, text, 7<<18)

	require.NoError(t, os.Rename(results, results+"-away"))
	require.NoError(t, os.Symlink(t.TempDir(), results))
	require.ErrorContains(t, integrity.Publish(dir, results), "is not a directory")
}

func TestRecorderConfig(t *testing.T) {
	t.Parallel()
	_, err := integrity.NewRecorder(integrity.RecorderConfig{})
	require.ErrorContains(t, err, "Source is missing")
	_, err = integrity.NewRecorder(integrity.RecorderConfig{Source: &integritytest.Fake{}, Interval: time.Hour})
	require.ErrorContains(t, err, "Interval 1h0m0s is not from 100ms to 1m0s")
}

// Several runs at once share one source, and each has all samples.
func TestRecordingsOfRunsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h100, _ := hwdetect.Profile("h100-8")
		gpus := hwdetect.Static{Machine: h100}
		machine := integrity.NewMachine(integrity.MachineConfig{Telemetry: gpus, Counters: gpus})
		recorder := newRecorder(t, integrity.RecorderConfig{Source: machine})
		var all []*integrity.Recording
		for range 4 {
			rec, err := recorder.Begin(t.Context(), integrity.Run{Dir: t.TempDir()})
			require.NoError(t, err)
			all = append(all, rec)
		}
		<-time.After(29500 * time.Millisecond)
		for _, rec := range all {
			report, err := rec.End(t.Context(), time.Time{}, nil)
			require.NoError(t, err)
			require.Equal(t, 30, report.Samples.Count)
			require.Equal(t, 30, report.Samples.GPUs[7].Samples)
		}
	})
}

// A reading that an earlier sample had is none.
func TestOldReadingsAreNoSamples(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var source integritytest.Fake
		sample := busy(99)
		sample.GPUTime = time.Now()
		source.SetSample(sample, nil)
		rec, err := newRecorder(t, integrity.RecorderConfig{Source: &source}).Begin(t.Context(), integrity.Run{Dir: t.TempDir()})
		require.NoError(t, err)
		<-time.After(9500 * time.Millisecond)
		report, err := rec.End(t.Context(), time.Time{}, nil)
		require.NoError(t, err)
		require.Equal(t, 10, report.Samples.Count)
		require.Equal(t, 1, report.Samples.GPUs[0].Samples)
		require.Equal(t, "the GPUs have given no new reading", report.Gaps[0].Reason)
	})
}
