// Package resultstest makes directories as agents leave them, for tests of programs that
// read results. It writes them with the agent's own code.
package resultstest

import (
	"cmp"
	"errors"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A Kept is one benchmark that an agent keeps. ID and Ended are required.
type Kept struct {
	ID, TestID string
	Model      string // defaults to qwen2.5:7b
	Engine     string // defaults to vllm
	Suite      string // defaults to performance
	Image      string // id of the container image
	Failed     bool
	Ended      time.Time     // to the second
	Took       time.Duration // defaults to 1 min

	Data    map[string]any     // result data, as the server gets it; see Throughput
	Report  *integrity.Report  // nil for a run that is not judged; see Report
	Samples []integrity.Sample // see Samples
}

// Write puts the job into dir, which is an agent's Config.Dir.
func (k Kept) Write(dir string) error {
	store, err := jobs.Open(filepath.Join(dir, "jobs"), nil)
	if err != nil {
		return err
	}
	j, err := store.Create(jobs.Command{ID: k.ID, TestID: k.TestID, Type: jobs.TypeRunTest, Spec: jobs.Spec{
		Model: cmp.Or(k.Model, "qwen2.5:7b"), Engine: cmp.Or(k.Engine, "vllm"), Suite: cmp.Or(k.Suite, "performance"), Benchmark: "throughput",
	}}, jobs.FromProgram, nil)
	if err != nil {
		return err
	}
	o := jobs.Outcome{State: jobs.StateCompleted, Image: jobs.Image{ID: k.Image}}
	if k.Failed {
		o = jobs.Outcome{State: jobs.StateFailed, Error: "exit status 1", ExitCode: 1}
	}
	if k.Report != nil {
		o.Machine = &jobs.Machine{Verdict: string(k.Report.Verdict.Grade), Text: k.Report.Verdict.Line()}
	}
	begun := k.Ended.Add(-cmp.Or(k.Took, time.Minute))
	err = errors.Join(
		backdate(j.Path("command.json"), begun),
		j.Transition(jobs.StatePreparing, true, nil),
		j.Transition(jobs.StateRunning, true, func(r *jobs.Record) { r.StartedAt = begun }),
		j.Transition(jobs.StateFinishing, true, func(r *jobs.Record) { r.Outcome = &o }),
		outbox.SaveResult(j, o, k.Data, true),
		k.writeMachine(j),
		j.Transition(o.State, true, func(r *jobs.Record) { r.EndedAt = k.Ended }),
	)
	return err
}

// backdate has a command accepted at a time of the past: a job that is accepted after
// its report on the machine is one with the report of another.
func backdate(path string, at time.Time) error {
	var command map[string]any
	if err := base.ReadJSON(path, &command, 1<<20); err != nil {
		return err
	}
	command["accepted_at"] = at
	return base.WriteJSON(path, command, 1<<20)
}

// writeMachine writes the report on the machine and the samples.
func (k Kept) writeMachine(j *jobs.Job) error {
	if k.Report != nil {
		if err := integrity.WriteReport(j.Path(integrity.ReportFile), *k.Report); err != nil {
			return err
		}
	}
	if len(k.Samples) == 0 {
		return nil
	}
	f, err := integrity.OpenSampleFile(j.Path(integrity.TelemetryFile))
	if err != nil {
		return err
	}
	for _, s := range k.Samples {
		err = errors.Join(err, f.Append(s))
	}
	return errors.Join(err, f.Close())
}

// Throughput returns result data of KITT's benchmark throughput, as an agent named
// gpu-07 with one H100 sends it.
func Throughput(tokensPerSecond float64) map[string]any {
	return map[string]any{
		"kitt_version": "1.7.0", "suite_name": "performance", "engine": "vllm", "model": "qwen2.5:7b", "passed": true, "total_time_seconds": 60.0,
		"results": []any{map[string]any{
			"test_name": "throughput", "run_number": 1.0, "passed": true, "errors": []any{},
			"metrics": map[string]any{"avg_tps": tokensPerSecond, "total_iterations": 5.0, "total_tokens_generated": 6000.0, "avg_latency_ms": 1e6 / tokensPerSecond},
		}},
		"agent": map[string]any{
			"schema": "kitt-agent/result/1", "name": "gpu-07", "version": "1.0.0",
			"gpus": []any{map[string]any{"index": 0.0, "uuid": "GPU-1", "model": "NVIDIA H100 80GB HBM3"}},
		},
		"system_info": map[string]any{"driver_version": "550.54.15"},
	}
}

// Report returns the report on a machine with one GPU that was under load between two
// times, at an SM clock. Its hardware slowed it down for hot of that time; from 0.1% on
// the run is invalid.
func Report(begun, ended time.Time, mhz int, hot time.Duration) *integrity.Report {
	state := func(at time.Time, energy float64, hot time.Duration) integrity.State {
		return integrity.State{
			Time: at, BootID: "boot", Host: integrity.HostState{Uptime: new(at.Sub(begun) + time.Hour), SwapInPages: new(int64(0))},
			GPUs: []hwdetect.GPUCounters{{UUID: "GPU-1", EnergyJ: &energy, HWThermal: &hot, PowerLimitW: new(700.0), DefaultPowerLimitW: new(700.0)}},
		}
	}
	end := state(ended, 1000+600*ended.Sub(begun).Seconds(), hot)
	e := &integrity.Evidence{Start: state(begun, 1000, 0), End: &end, ForeignKnown: true}
	for _, s := range Samples(begun, ended, mhz) {
		e.Samples.Add(s)
	}
	e.Samples.Finish()
	r := integrity.NewReport(e, map[string]string{"driver": "550.54.15", "gpus": "NVIDIA H100 80GB HBM3"}, integrity.DefaultRules())
	return &r
}

// Samples returns a sample for each second between two times, of a GPU that is under
// load but for a tenth of the time at both ends.
func Samples(begun, ended time.Time, mhz int) (all []integrity.Sample) {
	n := int(ended.Sub(begun) / time.Second)
	for i := range n {
		g := hwdetect.GPUTelemetry{UtilizationPct: new(98.0), PowerW: new(600.0), TemperatureC: new(40 + 25*float64(i)/float64(n)), SMClockMHz: new(mhz + i%2*5)}
		if i < n/10 || i >= n-n/10 {
			g.UtilizationPct, g.PowerW, g.SMClockMHz = new(1.0), new(80.0), new(345)
		}
		at := begun.Add(time.Duration(i) * time.Second)
		all = append(all, integrity.Sample{Time: at, Uptime: new(at.Sub(begun) + time.Hour), GPUs: []hwdetect.GPUTelemetry{g}})
	}
	return all
}
