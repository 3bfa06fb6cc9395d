package integrity

import (
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// A State is what is read once before and once after a run.
type State struct {
	Time   time.Time              `json:"time"`
	BootID string                 `json:"boot_id,omitempty"` // counters of different boots cannot be compared
	Host   HostState              `json:"host"`
	GPUs   []hwdetect.GPUCounters `json:"gpus,omitempty"`
	XIDs   []KernelXID            `json:"kernel_xids,omitempty"` // in the kernel's log, the latest at most
	Gaps   []Gap                  `json:"gaps,omitempty"`
}

// HostState is the part of a State that is not about GPUs. A nil field could not be
// read.
type HostState struct {
	Uptime *time.Duration `json:"uptime_ns,omitempty"` // since the boot, time asleep included

	// CPU time of all CPUs since the boot, in ticks of 10 ms: all states together,
	// and what the hypervisor gave to other guests (proc_stat(5)).
	CPUTicks   *int64 `json:"cpu_ticks,omitempty"`
	StealTicks *int64 `json:"steal_ticks,omitempty"`

	Pressure

	SwapInPages *int64 `json:"swap_in_pages,omitempty"` // since the boot (/proc/vmstat)
	MajorFaults *int64 `json:"major_faults,omitempty"`
	OOMKills    *int64 `json:"oom_kills,omitempty"`

	Governors []string `json:"governors,omitempty"` // of the CPUs, sorted; such as performance
	Turbo     *bool    `json:"turbo,omitempty"`
	SMT       *bool    `json:"smt,omitempty"` // whether CPUs run two threads
	Microcode string   `json:"microcode,omitempty"`
}

// Pressure is how long tasks waited for a resource since the boot, in total
// (/proc/pressure). With "some" at least one task waited, with "full" all did. A nil
// field could not be read.
type Pressure struct {
	CPUSome    *time.Duration `json:"psi_cpu_some_ns,omitempty"`
	MemorySome *time.Duration `json:"psi_memory_some_ns,omitempty"`
	MemoryFull *time.Duration `json:"psi_memory_full_ns,omitempty"`
	IOSome     *time.Duration `json:"psi_io_some_ns,omitempty"`
	IOFull     *time.Duration `json:"psi_io_full_ns,omitempty"`
}

// A Gap is something that could not be read, or a time without samples.
type Gap struct {
	What   string     `json:"what"` // such as samples, gpu_counters or psi_memory
	Reason string     `json:"reason"`
	From   *time.Time `json:"from,omitempty"`
	To     *time.Time `json:"to,omitempty"`
}
