package integrity

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// MachineConfig says what a [Machine] reads. The zero value is the host without
// GPUs.
type MachineConfig struct {
	// Root is the machine's file tree. Defaults to the one that the program runs on.
	Root fs.FS

	// KernelLog is a file like /dev/kmsg, which is the default unless Root is set.
	KernelLog string

	// Telemetry and Counters read the GPUs. With nil there are no figures of GPUs.
	Telemetry hwdetect.TelemetryReader
	Counters  hwdetect.CounterReader

	// Processes lists the processes on the GPUs. Nil lists none and says so.
	Processes hwdetect.ProcessReader
}

// A Machine is the [Source] for a Linux machine.
type Machine struct {
	cfg  MachineConfig
	host host
}

var (
	_ Source                 = (*Machine)(nil)
	_ hwdetect.ProcessReader = (*Machine)(nil)
)

// NewMachine returns a Machine. It reads nothing yet.
func NewMachine(cfg MachineConfig) *Machine {
	if cfg.Root == nil {
		cfg.Root = os.DirFS("/")
		cfg.KernelLog = cmp.Or(cfg.KernelLog, kernelLog)
	}
	return &Machine{cfg: cfg, host: host{cfg.Root}}
}

// State reads the host's counters and settings and the GPUs' counters. The host's
// files take well under a millisecond; the GPUs get the rest of ctx's time.
func (m *Machine) State(ctx context.Context) (State, error) {
	if ctx.Err() != nil {
		return State{}, context.Cause(ctx)
	}
	hostErr := m.host.readable()
	s := State{BootID: m.host.line("proc/sys/kernel/random/boot_id")}
	s.Host, s.Gaps = m.host.state()
	if m.cfg.Counters == nil {
		s.Time, s.Host.Uptime = m.host.clocks()
		return s, hostErr
	}
	c, err := m.cfg.Counters.Counters(ctx)
	if err != nil {
		s.Gaps = append(s.Gaps, Gap{What: "gpu_counters", Reason: gapReason(err)})
	}
	s.GPUs = c.GPUs
	m.addXIDs(&s)
	s.Time, s.Host.Uptime = m.host.clocks()
	if len(s.GPUs) == 0 {
		return s, hostErr
	}
	return s, nil
}

// addXIDs adds the errors of GPUs in the kernel's log, if there is a GPU.
func (m *Machine) addXIDs(s *State) {
	if len(s.GPUs) == 0 || m.cfg.KernelLog == "" {
		return
	}
	var err error
	if s.XIDs, err = readKernelXIDs(m.cfg.KernelLog); err != nil {
		s.Gaps = append(s.Gaps, Gap{What: "kernel_xids", Reason: err.Error()})
	}
}

// Sample reads the host's pressure and asks for the latest reading of the GPUs.
func (m *Machine) Sample(ctx context.Context) (Sample, error) {
	var s Sample
	s.Time, s.Uptime = m.host.clocks()
	s.Pressure = m.host.pressure()
	if m.cfg.Telemetry == nil {
		return s, nil
	}
	reading, err := m.cfg.Telemetry.Telemetry(ctx)
	if err != nil {
		return s, err
	}
	s.GPUs, s.GPUTime = reading.GPUs, reading.Time
	return s, nil
}

// Processes lists the processes on the GPUs, with their names and owners. The error
// matches [hwdetect.ErrAbsent] if nothing can list them.
func (m *Machine) Processes(ctx context.Context) ([]hwdetect.GPUProcess, error) {
	if m.cfg.Processes == nil {
		return nil, hwdetect.ErrAbsent
	}
	list, err := m.cfg.Processes.Processes(ctx)
	if err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	for i := range list {
		command, owner := m.host.process(list[i].PID)
		list[i].Command = cmp.Or(list[i].Command, command)
		list[i].Owner = cmp.Or(list[i].Owner, owner)
	}
	return list, nil
}

// noLibrary begins the reason of a gap for GPUs that nothing can read.
const noLibrary = "no library for them"

// gapReason returns an error's text for a [Gap].
func gapReason(err error) string {
	switch {
	case errors.Is(err, hwdetect.ErrAbsent):
		return noLibrary + ": NVML is missing, or the program was built without it"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}
