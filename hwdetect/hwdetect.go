// Package hwdetect describes the machine that benchmarks run on.
//
// A [Detector] gives one immutable description of the machine; one that is a
// [Telemeter] too says how its GPUs fare at the moment. [System] is both: it
// looks at the machine that the program runs on. [Static] is both for a machine
// that is only thought of, such as one of the [Profiles] or a [Random] one.
//
// # How a System looks
//
// All probes run at once, each with a time limit of its own, so that a hanging
// disk or tool costs what it alone knows and no time beyond the limit. What
// could not be found out is a [Gap] with its reason and never an error. A probe
// that still hangs is not started a second time.
//
// GPUs come from [Source]s, asked in order until nothing is missing: those in
// Config.Sources (package hwdetect/nvml has the one for NVML, which needs cgo and
// the build tag nvml), then nvidia-smi, then what the NVIDIA driver and the PCI
// bus show under /proc and /sys. The last needs neither tool nor library, so that
// a GPU whose driver is broken is still named. Everything else is read from
// /proc, /sys, /run and /etc through an [io/fs.FS]; no other command is run, and
// nothing needs root.
//
// # Unified memory
//
// A GPU that is part of a chip with the CPU (GB10 in the DGX Spark, Orin, Thor)
// has no memory of its own, and both NVML and nvidia-smi decline to name any.
// Such a GPU is Unified and has the machine's RAM. A GPU is taken for one only
// if it is known to be integrated ([IntegratedGPU]), the answer was "not
// supported" rather than a failure, and MIG is off: a card that fell off the
// bus, a driver that does not match its library and a MIG slice are not. A
// Grace-Hopper GPU is a discrete one and keeps its own memory.
package hwdetect

import (
	"context"
	"slices"
	"time"
)

// A Detector describes the machine. Its methods are safe for concurrent use.
type Detector interface {
	// Detect returns the description. What cannot be found out is left at its
	// zero value and named in Machine.Gaps; an error means that nothing at all
	// could be found out, or that ctx is done.
	Detect(ctx context.Context) (*Machine, error)
}

// A Telemeter reads how the GPUs fare now.
type Telemeter interface {
	// Telemetry returns the latest reading. It never waits for a GPU: a reading
	// that takes long is fetched beside the caller, and its Time says how old
	// the one returned is.
	Telemetry(ctx context.Context) (Telemetry, error)
}

// A Machine is a description of a computer. It is not changed once made.
type Machine struct {
	Hostname        string  `json:"hostname"`
	EnvironmentType string  `json:"environment_type"` // dgx_spark, dgx, wsl2, docker, container, native_linux, native_macos, native_windows, unknown
	OS              string  `json:"os"`               // system and kernel release, as in Linux-5.15.0-1042-nvidia
	Kernel          string  `json:"kernel"`           // the kernel's build string
	GPUs            []GPU   `json:"gpus"`
	DriverVersion   string  `json:"driver_version"`                // of the NVIDIA driver
	CUDAVersion     string  `json:"cuda_version"`                  // of the installed CUDA toolkit, such as 12.4, as nvcc would say; empty without one
	CUDADriver      string  `json:"cuda_driver_version,omitempty"` // the newest CUDA that the driver can serve
	CPU             CPU     `json:"cpu"`
	MemoryBytes     int64   `json:"memory_bytes"`
	MemoryType      string  `json:"memory_type"` // such as DDR5; empty where unknown
	Storage         Storage `json:"storage"`     // the device behind the model directory
	Gaps            []Gap   `json:"gaps,omitempty"`
}

// Late reports whether some source did not answer in time, as NVML does when it
// has to wake eight GPUs, so that it is worth while to call Detect again soon.
func (m *Machine) Late() bool {
	return slices.ContainsFunc(m.Gaps, func(g Gap) bool { return g.Late })
}

// A GPU is one graphics processor.
type GPU struct {
	Index             int     `json:"index"`
	Model             string  `json:"model"`
	UUID              string  `json:"uuid,omitempty"`
	PCIBus            string  `json:"pci_bus,omitempty"`
	MemoryBytes       int64   `json:"memory_bytes"`                 // with Unified, the machine's RAM
	Unified           bool    `json:"unified,omitempty"`            // whether it shares the machine's RAM, as GB10 does
	ComputeCapability string  `json:"compute_capability,omitempty"` // such as 9.0
	PowerLimitW       float64 `json:"power_limit_w,omitempty"`
	MIG               *MIG    `json:"mig,omitempty"` // nil where the GPU has no MIG
	NVLinkPeers       []int   `json:"nvlink_peers,omitempty"`
}

// MIG is a GPU's partitioning.
type MIG struct {
	Enabled   bool          `json:"enabled"`
	Instances []MIGInstance `json:"instances,omitempty"`
}

// A MIGInstance is one slice of a GPU.
type MIGInstance struct {
	Profile     string `json:"profile"` // such as 1g.10gb
	UUID        string `json:"uuid,omitempty"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// CPU is the machine's processor, all sockets together.
type CPU struct {
	Model   string `json:"model"`
	Arch    string `json:"arch"`    // in Docker's names: amd64, arm64
	Cores   int    `json:"cores"`   // physical
	Threads int    `json:"threads"` // logical
	Sockets int    `json:"sockets,omitempty"`
}

// Storage is a block device.
type Storage struct {
	Brand string `json:"brand"`
	Model string `json:"model"`
	Type  string `json:"type"` // nvme, ssd, hdd; empty where unknown
}

// A Gap is something that could not be found out.
type Gap struct {
	What   string `json:"what"` // the JSON name of the field, such as memory_type, or the name of a source of GPUs
	Reason string `json:"reason"`

	// Late says that the answer did not come in time, so that a later Detect
	// may well have it.
	Late bool `json:"late,omitempty"`
}

// Telemetry is one reading of all GPUs.
type Telemetry struct {
	Time time.Time      `json:"time"` // when it was read; zero where there is no reading yet
	GPUs []GPUTelemetry `json:"gpus"`

	// Sick gives the reason why a GPU cannot be used, such as one that fell off
	// the bus; empty means that all is well.
	Sick string `json:"sick,omitempty"`
}

// GPUTelemetry is one reading of one GPU. A nil field could not be read.
type GPUTelemetry struct {
	Index           int      `json:"index"`
	UtilizationPct  *float64 `json:"utilization_pct,omitempty"` // 0 to 100
	MemoryUsedBytes *int64   `json:"memory_used_bytes,omitempty"`
	TemperatureC    *float64 `json:"temperature_c,omitempty"`
	PowerW          *float64 `json:"power_w,omitempty"`
	ThrottleReasons []string `json:"throttle_reasons,omitempty"`
	ECCUncorrected  *int64   `json:"ecc_uncorrected,omitempty"` // since the driver was loaded
	LastXID         *int64   `json:"last_xid,omitempty"`
}

// UtilizationPct returns the mean utilisation of the GPUs that gave one, and
// whether any did.
func (t Telemetry) UtilizationPct() (float64, bool) {
	var sum float64
	var n int
	for _, g := range t.GPUs {
		if g.UtilizationPct != nil {
			sum += *g.UtilizationPct
			n++
		}
	}
	if n == 0 {
		return 0, false
	}
	return sum / float64(n), true
}

// MemoryUsedBytes returns the memory in use summed over the GPUs that gave it,
// and whether any did.
func (t Telemetry) MemoryUsedBytes() (int64, bool) {
	var sum int64
	var known bool
	for _, g := range t.GPUs {
		if g.MemoryUsedBytes != nil {
			sum += *g.MemoryUsedBytes
			known = true
		}
	}
	return sum, known
}
