// Package hwdetecttest helps to test users and implementations of package
// hwdetect. It has a [Fake] with settable answers, a [Recording] of a machine's
// files and of its nvidia-smi, and the contracts as code: [TestDetector],
// [TestTelemetryReader], [TestCounterReader] and [TestProcessReader].
//
// Machines for a Fake come from [hwdetect.Profile] and [hwdetect.Random].
package hwdetecttest

import (
	"context"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Fake is a [hwdetect.Detector], [hwdetect.TelemetryReader],
// [hwdetect.CounterReader] and [hwdetect.ProcessReader] with settable answers. Its zero value is a machine without GPUs. Its methods are safe for
// concurrent use.
type Fake struct {
	mu        sync.Mutex // guards the fields below
	machine   *hwdetect.Machine
	detectErr error
	reading   *hwdetect.Telemetry
	readErr   error
	delay     time.Duration
	detected  int
	read      int
	counters  *hwdetect.Counters
	countErr  error
	processes []hwdetect.GPUProcess
	procErr   error
}

var (
	_ hwdetect.Detector        = (*Fake)(nil)
	_ hwdetect.TelemetryReader = (*Fake)(nil)
	_ hwdetect.CounterReader   = (*Fake)(nil)
	_ hwdetect.ProcessReader   = (*Fake)(nil)
)

// NewFake returns a Fake that describes machine.
func NewFake(machine *hwdetect.Machine) *Fake { return &Fake{machine: machine} }

// SetMachine sets what later calls of Detect return.
func (f *Fake) SetMachine(m *hwdetect.Machine, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machine, f.detectErr = m, err
}

// SetTelemetry sets what later calls of Telemetry return. If t.Time is zero they
// set it to the current time. The default is the reading of an idle machine.
func (f *Fake) SetTelemetry(t hwdetect.Telemetry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading, f.readErr = &t, err
}

// SetFault sets the fault that Telemetry reports, or clears it if reason is empty.
func (f *Fake) SetFault(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.currentLocked()
	t.Fault = reason
	f.reading = &t
}

// SetDelay sets how long Detect takes.
func (f *Fake) SetDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// Calls returns the number of calls of Detect and of Telemetry.
func (f *Fake) Calls() (detect, telemetry int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.detected, f.read
}

// Detect returns the machine or error that was set, after the delay that was set.
func (f *Fake) Detect(ctx context.Context) (*hwdetect.Machine, error) {
	f.mu.Lock()
	f.detected++
	delay := f.delay
	f.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.detectErr != nil {
		return nil, f.detectErr
	}
	return f.machineLocked(), nil
}

// Telemetry returns the reading or error that was set.
func (f *Fake) Telemetry(ctx context.Context) (hwdetect.Telemetry, error) {
	if ctx.Err() != nil {
		return hwdetect.Telemetry{}, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read++
	if f.readErr != nil {
		return hwdetect.Telemetry{}, f.readErr
	}
	return f.currentLocked(), nil
}

// SetCounters sets what later calls of Counters return. If c.Time is zero they set
// it to the current time. The default are the counters of a healthy machine.
func (f *Fake) SetCounters(c hwdetect.Counters, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counters, f.countErr = &c, err
}

// SetProcesses sets what later calls of Processes return. The default is none.
func (f *Fake) SetProcesses(p []hwdetect.GPUProcess, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes, f.procErr = p, err
}

// Counters returns the counters or error that was set.
func (f *Fake) Counters(ctx context.Context) (hwdetect.Counters, error) {
	if ctx.Err() != nil {
		return hwdetect.Counters{}, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.countErr != nil {
		return hwdetect.Counters{}, f.countErr
	}
	if f.counters == nil {
		return f.machineLocked().Counters(time.Now()), nil
	}
	c := *f.counters
	if c.Time.IsZero() {
		c.Time = time.Now()
	}
	return c, nil
}

// Processes returns the processes or error that was set.
func (f *Fake) Processes(ctx context.Context) ([]hwdetect.GPUProcess, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.processes, f.procErr
}

func (f *Fake) machineLocked() *hwdetect.Machine {
	if f.machine == nil {
		f.machine = &hwdetect.Machine{
			Hostname: "fake", EnvironmentType: "native_linux", OS: "Linux-6.8.0", Kernel: "#1 SMP",
			GPUs: []hwdetect.GPU{}, CPU: hwdetect.CPU{Model: "Fake CPU", Arch: "amd64", Cores: 4, Threads: 8}, MemoryBytes: 16 << 30,
		}
	}
	return f.machine
}

func (f *Fake) currentLocked() hwdetect.Telemetry {
	if f.reading == nil {
		return f.machineLocked().Reading(0, time.Now())
	}
	t := *f.reading
	if t.Time.IsZero() {
		t.Time = time.Now()
	}
	return t
}
