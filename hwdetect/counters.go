package hwdetect

import (
	"context"
	"time"
)

// A CounterReader reads the counters and settings of the GPUs. The difference of
// two readings is exact and costs nothing in between, unlike samples. Its methods
// are safe for concurrent use. It is an optional capability of a [Source] and of a
// [TelemetryReader].
type CounterReader interface {
	// Counters returns the counters of all GPUs. The error matches [ErrAbsent] if
	// they cannot be read on this machine. Counters returns soon after ctx is
	// done; the error then matches ctx.Err().
	Counters(ctx context.Context) (Counters, error)
}

// A ProcessReader lists the processes that use the GPUs. Its methods are safe for
// concurrent use. It is an optional capability, as [CounterReader] is.
type ProcessReader interface {
	// Processes returns the processes with a compute, graphics or MPS context, one
	// entry for each process and GPU. Errors are as for
	// [CounterReader.Counters].
	Processes(ctx context.Context) ([]GPUProcess, error)
}

// Counters is one reading of the counters and settings of all GPUs.
type Counters struct {
	Time time.Time     `json:"time"`
	GPUs []GPUCounters `json:"gpus"`
}

// GPUCounters is one reading of the counters and settings of one GPU. A nil field
// could not be read.
type GPUCounters struct {
	Index int    `json:"index"`
	UUID  string `json:"uuid,omitempty"`

	PCIBus string `json:"pci_bus,omitempty"` // such as 0000:01:00.0
	VBIOS  string `json:"vbios,omitempty"`   // version of the GPU's firmware

	// The time during which clocks were reduced, by cause, since the driver was
	// loaded. NVML: field values 74, 76, 269, 270 and 271.
	PowerCap     *time.Duration `json:"power_cap_ns,omitempty"`
	SyncBoost    *time.Duration `json:"sync_boost_ns,omitempty"`
	SWThermal    *time.Duration `json:"sw_thermal_ns,omitempty"`
	HWThermal    *time.Duration `json:"hw_thermal_ns,omitempty"`
	HWPowerBrake *time.Duration `json:"hw_power_brake_ns,omitempty"`

	EnergyJ *float64 `json:"energy_j,omitempty"` // since the driver was loaded

	PowerLimitW        *float64 `json:"power_limit_w,omitempty"` // the enforced one
	DefaultPowerLimitW *float64 `json:"default_power_limit_w,omitempty"`
	Persistence        *bool    `json:"persistence,omitempty"`
	ComputeMode        string   `json:"compute_mode,omitempty"` // as nvidia-smi names it, such as Default; empty if unknown
	MIG                *bool    `json:"mig,omitempty"`
	ECC                *bool    `json:"ecc,omitempty"`

	ECCUncorrected *int64 `json:"ecc_uncorrected,omitempty"` // since the driver was loaded
	ECCCorrected   *int64 `json:"ecc_corrected,omitempty"`
	RemapPending   *bool  `json:"remap_pending,omitempty"` // a row is remapped, or a page retired, at the next reset
	RemapFailed    *bool  `json:"remap_failed,omitempty"`

	MaxSMClockMHz *int   `json:"max_sm_clock_mhz,omitempty"`
	MaxPCIeGen    *int   `json:"max_pcie_gen,omitempty"` // what both the GPU and its slot can do
	MaxPCIeWidth  *int   `json:"max_pcie_width,omitempty"`
	PCIeReplays   *int64 `json:"pcie_replays,omitempty"`
	NVLinkErrors  *int64 `json:"nvlink_errors,omitempty"` // of all links
}

// A GPUProcess is one process on one GPU.
type GPUProcess struct {
	GPU         int      `json:"gpu"`                    // index
	PID         int      `json:"pid"`                    // in the host's PID namespace
	Command     string   `json:"command,omitempty"`      // its name, of at most 15 bytes (proc_pid_comm(5)); empty if unknown
	Owner       string   `json:"owner,omitempty"`        // user name or id; empty if unknown
	Kind        string   `json:"kind,omitempty"`         // compute, graphics or mps
	MemoryBytes *int64   `json:"memory_bytes,omitempty"` // nil if unknown
	SMPct       *float64 `json:"sm_pct,omitempty"`       // share of the SMs in use, 0 to 100; nil if unknown
}
