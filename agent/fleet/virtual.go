package fleet

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// virtual is one agent of a fleet, and the runner of its jobs.
type virtual struct {
	name  string
	group *Group
	fleet *Fleet
	agent *agent.Agent
	hw    *hwdetect.Machine

	jobs       atomic.Int32 // running now
	registered atomic.Bool
	online     atomic.Bool // whether its last registration or heartbeat succeeded
}

func newVirtual(f *Fleet, g *Group, name string, machine *hwdetect.Machine) (*virtual, error) {
	v := &virtual{name: name, group: g, fleet: f, hw: new(*machine)} // GPUs of the same profile are shared
	v.hw.Hostname = name
	var err error
	v.agent, err = f.newAgent(v)
	return v, err
}

// machine returns the detector of the machine. Its GPUs are busy while a job runs.
func (v *virtual) machine() hwdetect.Detector {
	return &hwdetect.Static{Machine: v.hw, Load: func() float64 {
		return min(float64(v.jobs.Load()), 1)
	}}
}

// integrity returns what watches the machine: only one with faults is watched, since that
// takes files and a sample each second for every job.
func (v *virtual) integrity() agent.Integrity {
	if s := v.group.Scenario; s == nil || s.Machine == (simulated.MachineFaults{}) {
		return agent.Integrity{}
	}
	return agent.Integrity{Source: integrity.NewSimulated(integrity.SimulatedConfig{
		Machine: v.hw, Faults: integrity.Faults(v.group.Scenario.Machine),
		Load: func() float64 { return min(float64(v.jobs.Load()), 1) },
	}), WaitIdle: -1}
}

var _ runner.Owner = (*virtual)(nil)

// Owns returns none: a simulated run has no processes.
func (v *virtual) Owns(context.Context, []runner.Job, []int) ([]int, error) { return nil, nil }

// Run simulates a job. It creates the simulation for this job, so that thousands of
// idle agents need none.
func (v *virtual) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	sim, err := simulated.New(v.group.simulation(v.fleet.cfg, v.hw))
	if err != nil {
		return runner.Result{}, err
	}
	v.jobs.Add(1)
	v.fleet.meter.jobs.Add(1)
	defer func() {
		v.jobs.Add(-1)
		v.fleet.meter.jobs.Add(-1)
	}()
	return sim.Run(ctx, job, &countedOutput{out, &v.fleet.meter.printed})
}

// countedOutput counts the lines of a benchmark.
type countedOutput struct {
	runner.Output
	lines *atomic.Int64
}

func (o *countedOutput) WriteOutput(p []byte, at time.Time, from runner.Position) error {
	o.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return o.Output.WriteOutput(p, at, from)
}
