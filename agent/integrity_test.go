package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
	"github.com/kirizan/kitt-agent/runner"
)

// hotMachine is a machine whose GPU is throttled by the hardware all the time, from the
// start of the test on.
type hotMachine struct {
	integritytest.Fake
	begun time.Time
}

func (m *hotMachine) State(ctx context.Context) (integrity.State, error) {
	s, err := m.Fake.State(ctx)
	s.BootID = "b"
	s.GPUs = []hwdetect.GPUCounters{{Index: 0, UUID: "GPU-0", HWThermal: new(time.Since(m.begun))}}
	return s, err
}

func newHotMachine() *hotMachine {
	m := &hotMachine{begun: time.Now()}
	m.SetSample(integrity.Sample{GPUs: []hwdetect.GPUTelemetry{{Index: 0, UtilizationPct: new(99.0), SMClockMHz: new(900)}}}, nil)
	return m
}

// forges is a run that writes what the agent would, and metrics that praise the machine.
func forges(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	for _, name := range []string{integrity.ReportFile, integrity.TelemetryFile} {
		if err := os.WriteFile(filepath.Join(job.ResultsDir, name), []byte(`{"schema": "kitt-agent/integrity/1", "verdict": {"verdict": "valid"}}`), 0o600); err != nil {
			return runner.Result{}, err
		}
	}
	if _, err := prints(30, time.Second)(ctx, job, out); err != nil {
		return runner.Result{}, err
	}
	metrics := `{"model": "m", "timestamp": "2026-11-23T16:17:04", "results": [], "integrity": {"verdict": "valid"}, "agent": {"integrity": {"verdict": "valid"}}}`
	return runner.Result{Runner: "play", Ended: time.Now()}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(metrics), 0o600)
}

func TestAnInvalidRunSaysSoEverywhere(t *testing.T) {
	t.Parallel()
	for _, fail := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			srv := &agenttest.Server{}
			a, stop := start(t, agent.Config{
				Server: srv, Runner: &play{run: forges},
				Integrity: agent.Integrity{Source: newHotMachine(), FailInvalid: fail},
			})
			defer stop()
			id := srv.Launch("m")
			<-time.After(10 * time.Second)
			job := a.Status().Jobs[0]
			before, err := integrity.ReadReport(filepath.Join(job.Dir, integrity.ReportFile))
			require.NoError(t, err)
			require.Nil(t, before.End, "the start is on disk while the benchmark runs")
			require.Nil(t, job.Integrity)

			want := "completed"
			if fail {
				want = "failed"
			}
			require.NoError(t, srv.Wait(within(t, time.Hour), id, want))
			<-time.After(time.Minute)
			job = a.Jobs()[0]
			require.Equal(t, "invalid", job.Integrity.Verdict)
			const line = "Machine: INVALID - hardware thermal slowdown for 100% of 30 s on GPU 0"
			require.Equal(t, line, job.Integrity.Text)
			if fail {
				require.Equal(t, "machine", job.Class)
				require.Contains(t, job.Error, "the machine was not fit to be measured: hardware thermal slowdown")
				require.NotEmpty(t, job.Fix)
			}
			lines := srv.Lines(id)
			require.Equal(t, line, lines[len(lines)-1])

			data := srv.Results()[0].Data
			told := data["integrity"].(map[string]any)
			require.Equal(t, "invalid", told["verdict"])
			require.Equal(t, line, told["text"])
			require.Equal(t, "hw_thermal", told["reasons"].([]any)[0].(map[string]any)["code"])
			require.Equal(t, "gpu-01", told["identity"].(map[string]any)["agent"])
			require.Len(t, told["summary"], 1)
			require.Equal(t, map[string]any{"verdict": "invalid", "text": line}, data["agent"].(map[string]any)["integrity"])

			for _, dir := range []string{job.Dir, filepath.Join(job.Dir, "results")} {
				report, err := integrity.ReadReport(filepath.Join(dir, integrity.ReportFile))
				require.NoError(t, err)
				require.Equal(t, integrity.Invalid, report.Verdict.Grade)
				summary, err := integrity.Summarize(filepath.Join(dir, integrity.TelemetryFile))
				require.NoError(t, err)
				require.InDelta(t, 30, summary.Count, 1)
			}
		})
	}
}

// An agent restarts three times during a run, and is away for most of it.
func TestRestartsKeepTheVerdict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, dir, machine := &agenttest.Server{}, t.TempDir(), newHotMachine()
		run := &lasting{until: time.Now().Add(10 * time.Minute)}
		cfg := agent.Config{Server: srv, Runner: run, Dir: dir, Integrity: agent.Integrity{Source: machine}}
		a, stop := start(t, cfg)
		id := srv.Launch("m")
		for range 3 {
			<-time.After(20 * time.Second)
			stop()
			<-time.After(2 * time.Minute)
			a, stop = start(t, cfg)
		}
		defer stop()
		require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
		<-time.After(time.Minute)
		job := a.Jobs()[0]
		require.Equal(t, "Machine: INVALID - hardware thermal slowdown for 100% of 600 s on GPU 0", job.Integrity.Text)
		report, err := integrity.ReadReport(filepath.Join(job.Dir, integrity.ReportFile))
		require.NoError(t, err)
		away := slices.DeleteFunc(report.Gaps, func(g integrity.Gap) bool { return g.What != "samples" })
		require.Len(t, away, 3)
		require.InDelta(t, 240, report.Samples.Count, 5)
	})
}

// lasting is a runner whose one run goes on until a moment, whoever follows it.
type lasting struct{ until time.Time }

func (l *lasting) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	fmt.Fprintln(runner.OutputWriter(out), "lasting")
	return l.Resume(ctx, job, 0, out)
}

func (l *lasting) Resume(ctx context.Context, job runner.Job, _ runner.Position, _ runner.Output) (runner.Result, error) {
	select {
	case <-time.After(time.Until(l.until)):
	case <-ctx.Done():
		return runner.Result{}, context.Cause(ctx)
	}
	return runner.Result{Runner: "lasting", Ended: l.until}, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(`{"results": []}`), 0o600)
}

// A machine that hangs holds up the start and the end by its limit, and no more.
func TestAMachineThatHangsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, machine := &agenttest.Server{}, &integritytest.Fake{}
		machine.SetHang(true)
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(30, time.Second)}, Integrity: agent.Integrity{Source: machine}})
		defer stop()
		begun := time.Now()
		require.NoError(t, srv.Wait(within(t, time.Hour), srv.Launch("m"), "completed"))
		require.LessOrEqual(t, time.Since(begun), 90*time.Second)
		require.Equal(t, "unjudged", a.Jobs()[0].Integrity.Verdict)
	})
}

// Without a source nothing is recorded, and nobody's word is taken for it.
func TestWithoutASourceNothingIsRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: forges}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
		<-time.After(time.Minute)
		require.Nil(t, a.Jobs()[0].Integrity)
		require.NotContains(t, srv.Results()[0].Data, "integrity")
		lines := srv.Lines(id)
		require.Equal(t, "Benchmark completed", lines[len(lines)-1])
	})
}

func TestIntegrityConfig(t *testing.T) {
	t.Parallel()
	_, err := agent.New(agent.Config{Integrity: agent.Integrity{Source: &integritytest.Fake{}, Interval: time.Hour}})
	require.ErrorContains(t, err, "Interval 1h0m0s")
}
