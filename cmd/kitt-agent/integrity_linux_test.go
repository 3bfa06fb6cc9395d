package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/nvml/nvmltest"
)

// buildWithNVML builds the daemon with NVML, and the library that plays one, next to
// each other.
var buildWithNVML = sync.OnceValue(func() error {
	dir := filepath.Join(builtIn, "nvml")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-tags", "nvml", "-o", filepath.Join(dir, "kitt-agent"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-g -O2 -Wno-deprecated-declarations")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the daemon with NVML: %w: %s", err, out)
	}
	return nvmltest.Build(context.Background(), dir)
})

// A gpuMachine is a daemon on a machine with two scripted H100s, and its server.
type gpuMachine struct {
	*daemon
	server *kittapitest.Server
	script string
	id     string // of its one test
	jobDir string
}

// newGPUMachine starts a benchmark of some eight seconds on healthy GPUs, and returns
// once it runs.
func newGPUMachine(t *testing.T, ctx context.Context) *gpuMachine {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler, which a daemon with NVML needs: ", err)
	}
	prog := buildProgram(t)
	require.NoError(t, buildWithNVML())
	require.NoError(t, os.Remove(prog.path))
	require.NoError(t, os.Link(filepath.Join(builtIn, "nvml", "kitt-agent"), prog.path))
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	server.AddAgent("chaos")
	m := &gpuMachine{
		daemon: newDaemon(t, prog, server.URL, "process", "integrity: {interval: 200ms, wait_idle: 0}"), server: server,
		script: filepath.Join(t.TempDir(), "script"),
	}
	m.env = []string{nvmltest.Env + "=" + m.script, "LD_LIBRARY_PATH=" + filepath.Join(builtIn, "nvml")}
	m.play(nvmltest.Healthy(2, 0))
	id, command, err := server.Launch("chaos", "fake:lines.100_delay.80ms")
	require.NoError(t, err)
	m.id, m.jobDir = id, filepath.Join(m.home, "jobs", command)
	m.start()
	require.NoError(t, waitForLines(ctx, server, id, 5), tail(m.daemon))
	return m
}

// play has the GPUs play a script from now on.
func (m *gpuMachine) play(s *nvmltest.Script) {
	m.t.Helper()
	require.NoError(m.t, s.Write(m.script, time.Now()))
}

// verdict waits for the end of the benchmark, which all of its log reaches, and returns
// the report and the log's last line.
func (m *gpuMachine) verdict(ctx context.Context) (integrity.Report, string) {
	m.t.Helper()
	require.NoError(m.t, m.server.WaitForEnd(ctx, m.id), tail(m.daemon))
	row, _ := m.server.Test(m.id)
	require.Equal(m.t, "completed", row.Status, row.Error)
	lines := m.server.Lines(m.id)
	require.Len(m.t, numbersOf(lines), 100)
	report, err := integrity.ReadReport(filepath.Join(m.jobDir, "results", integrity.ReportFile))
	require.NoError(m.t, err)
	return report, lines[len(lines)-1]
}

func TestVerdictsOnScriptedGPUs(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(t *testing.T, s *nvmltest.Script)
		want  string // in the last line
	}{
		"healthy":   {func(*testing.T, *nvmltest.Script) {}, "Machine: valid"},
		"throttled": {func(_ *testing.T, s *nvmltest.Script) { s.Grow(0, 1, "field.270", 0, 0.5e9) }, "Machine: INVALID - hardware thermal slowdown for "},
		"uncorrected memory error": {func(_ *testing.T, s *nvmltest.Script) { s.Set(2*time.Second, 1, "ecc_uncorrected", 1) },
			"Machine: INVALID - 1 uncorrected memory errors on GPU 1"},
		"link narrowed": {func(_ *testing.T, s *nvmltest.Script) { s.Set(0, 1, "pcie_width", 8) },
			"Machine: INVALID - PCIe link with 8 of 16 lanes under load on GPU 1"},
		"power limit changed": {func(_ *testing.T, s *nvmltest.Script) { s.Set(2*time.Second, 0, "power_limit_mw", 500_000) },
			"Machine: INVALID - power limit changed during the run on GPU 0"},
		"GPU fell off the bus": {func(_ *testing.T, s *nvmltest.Script) { s.Set(time.Second, 1, "xid", 79) },
			"Machine: INVALID - XID 79: the GPU failed on GPU 1"},
		"another process": {func(t *testing.T, s *nvmltest.Script) {
			other := exec.Command("sleep", "100")
			require.NoError(t, other.Start())
			t.Cleanup(func() { _, _ = other.Process.Kill(), other.Wait() })
			s.Set(0, 1, fmt.Sprintf("proc.%d", other.Process.Pid), 1<<30)
			s.Set(0, 1, fmt.Sprintf("sm.%d", other.Process.Pid), 30)
		}, "(sleep of uid "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			m := newGPUMachine(t, ctx)
			script := nvmltest.Healthy(2, 0)
			tt.fault(t, script)
			m.play(script)
			report, line := m.verdict(ctx)
			require.Contains(t, line, tt.want, report.Verdict)
			require.Len(t, report.Delta, 2)
			require.NotEmpty(t, report.Samples.GPUs[1].SMClock)
			m.stop()
		})
	}
}

// An agent that is killed three times during a throttled run knows that it was throttled.
func TestVerdictOfAKilledAgent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := newGPUMachine(t, ctx)
	throttled := nvmltest.Healthy(2, 0)
	throttled.Grow(0, 1, "field.270", 0, 0.5e9)
	m.play(throttled)
	for range 3 {
		m.kill()
		pause(500 * time.Millisecond)
		m.start()
		pause(500 * time.Millisecond)
	}
	report, line := m.verdict(ctx)
	require.Contains(t, line, "Machine: INVALID - hardware thermal slowdown for ")
	require.NotEmpty(t, report.Gaps, "an agent that was back within a second missed no sample")
	for _, gap := range report.Gaps {
		require.Equal(t, "the agent was not running", gap.Reason)
	}
	m.stop()
}

// A call into the driver hangs for the rest of the run. The benchmark goes on, its job
// ends soon after it, and the report says what is not known.
func TestADriverThatHangsIsAGap(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := newGPUMachine(t, ctx)
	hangs := nvmltest.Healthy(2, 0)
	hangs.Set(0, nvmltest.All, "hang", 1)
	m.play(hangs)
	report, line := m.verdict(ctx)
	require.Contains(t, line, "Machine: ")
	require.NotContains(t, line, "INVALID")
	require.NotEmpty(t, report.End.Gaps)
	require.Contains(t, fmt.Sprint(report.End.Gaps), "gpu_counters")
	require.NotEmpty(t, report.Verdict.Unjudged)
	require.NotNil(t, report.End.Host.CPUTicks, "the host answers all the same")
	require.NotZero(t, report.Samples.MoreGaps+len(report.Samples.Gaps)+len(report.Gaps), "there are times without samples")
	m.play(nvmltest.Healthy(2, 0))
	m.stop()
}

// BenchmarkIntegrity compares the time that a benchmark takes under an agent that watches
// the machine, by its own clock, with the time under one that does not. The two run by
// turns; the figure is the median of the paired ratios. A goal is 1.002:
//
//	go test ./cmd/kitt-agent -run xxx -bench BenchmarkIntegrity -benchtime 11x
func BenchmarkIntegrity(b *testing.B) {
	prog := buildProgram(b)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	var daemons []*daemon
	for _, enabled := range []bool{false, true} {
		server, err := kittapitest.NewServer(kittapitest.Config{})
		require.NoError(b, err)
		defer server.Close()
		server.AddAgent("chaos")
		d := newDaemon(b, prog, server.URL, "process", fmt.Sprintf("integrity: {enabled: %t}", enabled))
		d.start()
		require.NoError(b, server.WaitForAgent(ctx, "chaos"), tail(d))
		daemons = append(daemons, d)
	}
	var ratios []float64
	for i := 0; b.Loop(); i++ {
		var took [2]float64
		for n, d := range daemons {
			id := fmt.Sprintf("job%d", i)
			d.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":"fake:lines.3000_delay.1ms_clock_no-metrics"}}`, id))
			job := filepath.Join(d.home, "jobs", id)
			result, output := filepath.Join(job, "result.json"), filepath.Join(job, "process", "output")
			waitFor(b, ctx, result, func() bool { return exists(result) })
			took[n] = secondsIn(b, output)
		}
		ratios = append(ratios, took[1]/took[0])
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-unwatched")
	b.ReportMetric(ratios[0], "x-least")
	b.ReportMetric(ratios[len(ratios)-1], "x-most")
}
