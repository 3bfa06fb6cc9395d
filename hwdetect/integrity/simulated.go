package integrity

import (
	"context"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Faults are what is wrong with a simulated machine during every run. The zero value is a
// healthy machine.
type Faults struct {
	Throttled      bool // the hardware slows the last GPU down for 7% of the time
	ForeignProcess bool // another process uses 30% of the first GPU
	ClockDrift     bool // the clock gains a second in twenty
	ECCError       bool // the first GPU has an uncorrected memory error
	HungGPU        bool // no GPU answers
}

// SimulatedConfig describes a [Simulated] machine. Machine is required.
type SimulatedConfig struct {
	Machine *hwdetect.Machine
	Load    func() float64 // how busy the GPUs are, from 0 to 1; defaults to fully
	Faults  Faults
}

// A Simulated is the [Source] of a machine that does not exist. Its counters advance with
// the time since it was made.
type Simulated struct {
	cfg   SimulatedConfig
	begun time.Time

	mu     sync.Mutex
	states int // that were read; guarded by mu
}

var (
	_ Source                 = (*Simulated)(nil)
	_ hwdetect.ProcessReader = (*Simulated)(nil)
)

// NewSimulated returns a Simulated machine that was started now.
func NewSimulated(cfg SimulatedConfig) *Simulated {
	if cfg.Load == nil {
		cfg.Load = func() float64 { return 1 }
	}
	return &Simulated{cfg: cfg, begun: time.Now()}
}

// now returns the time of the machine's clock and its uptime.
func (s *Simulated) now() (time.Time, *time.Duration) {
	up := time.Since(s.begun)
	at := s.begun.Add(up).Round(0)
	if s.cfg.Faults.ClockDrift {
		at = at.Add(up / 20)
	}
	return at, &up
}

// State returns the state of the machine.
func (s *Simulated) State(ctx context.Context) (State, error) {
	if ctx.Err() != nil {
		return State{}, context.Cause(ctx)
	}
	s.mu.Lock()
	earlier := s.states
	s.states++
	s.mu.Unlock()
	state := State{BootID: "simulated"}
	var none time.Duration
	idle, zero := int64(0), int64(0)
	if err := s.answer(ctx); err != nil {
		state.Gaps = append(state.Gaps, Gap{What: "gpu_counters", Reason: gapReason(err)})
	} else {
		state.GPUs = s.cfg.Machine.Counters(time.Now()).GPUs
		s.spoil(state.GPUs, earlier)
	}
	state.Time, state.Host.Uptime = s.now()
	ticks := state.Host.Uptime.Milliseconds() / 10 * int64(max(s.cfg.Machine.CPU.Threads, 1))
	state.Host.CPUTicks, state.Host.StealTicks, state.Host.SwapInPages = &ticks, &idle, &zero
	state.Host.Pressure = Pressure{CPUSome: &none, MemorySome: &none, MemoryFull: &none, IOSome: &none, IOFull: &none}
	state.Host.Governors = []string{"performance"}
	return state, nil
}

// spoil adds the faults to the counters of the GPUs.
func (s *Simulated) spoil(gpus []hwdetect.GPUCounters, earlier int) {
	if len(gpus) == 0 {
		return
	}
	if s.cfg.Faults.Throttled {
		slow := time.Since(s.begun) * 7 / 100
		gpus[len(gpus)-1].HWThermal = &slow
	}
	if s.cfg.Faults.ECCError {
		errors := int64(earlier) // the run after each state has another one
		gpus[0].ECCUncorrected = &errors
	}
}

// answer waits as the GPUs do.
func (s *Simulated) answer(ctx context.Context) error {
	if s.cfg.Faults.HungGPU {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Sample returns a sample of the machine.
func (s *Simulated) Sample(ctx context.Context) (sample Sample, err error) {
	sample.Time, sample.Uptime = s.now()
	if s.cfg.Faults.HungGPU {
		return sample, context.DeadlineExceeded
	}
	if ctx.Err() != nil {
		return sample, context.Cause(ctx)
	}
	sample.GPUs = s.cfg.Machine.Reading(s.cfg.Load(), time.Now()).GPUs
	for i := range sample.GPUs {
		sample.GPUs[i].SMClockMHz = new(1980)
		if s.cfg.Faults.Throttled && i == len(sample.GPUs)-1 && sample.Uptime.Seconds()-float64(int(sample.Uptime.Seconds()/14)*14) < 1 {
			sample.GPUs[i].SMClockMHz = new(990) // one second in fourteen
			sample.GPUs[i].ThrottleReasons = []string{"hw_thermal_slowdown"}
		}
	}
	return sample, nil
}

// Processes returns the foreign process, if there is to be one.
func (s *Simulated) Processes(ctx context.Context) ([]hwdetect.GPUProcess, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	if !s.cfg.Faults.ForeignProcess {
		return nil, nil
	}
	return []hwdetect.GPUProcess{{
		PID: 4242, Command: "train", Owner: "uid 1000", Kind: "compute", SMPct: new(30.0), MemoryBytes: new(int64(8 << 30)),
	}}, nil
}
