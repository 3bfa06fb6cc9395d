// Package hwdetect describes the machine that benchmarks run on.
//
// A [Detector] returns an immutable description of the machine. A
// [TelemetryReader] returns the current readings of its GPUs. [System] implements
// both for the machine that the program runs on, [Static] for a simulated
// machine, such as one of the [Profiles] or a [Random] one.
//
// # How a System works
//
// All probes run concurrently, each with its own time limit. A disk or tool that
// hangs therefore costs one answer, and no time beyond the limit. What could not
// be found is a [Gap] with its reason, never an error. A probe that still hangs
// is not started a second time.
//
// GPUs come from [Source]s, which are asked in order until nothing is missing:
// those in Config.Sources (package hwdetect/nvml has the source for NVML, which
// needs cgo and the build tag nvml), then nvidia-smi, then what the NVIDIA driver
// and the PCI bus show under /proc and /sys. The last needs neither tool nor
// library, so it lists a GPU even if its driver is broken. Everything else is
// read from /proc, /sys, /run and /etc through an [io/fs.FS]. No other command is
// run, and nothing needs root.
//
// # Unified memory
//
// A GPU on one chip with the CPU (GB10 in the DGX Spark, Orin, Thor) has no
// memory of its own, and neither NVML nor nvidia-smi reports any. Such a GPU is
// Unified and has the machine's RAM. Three conditions must hold: the GPU is known
// to be integrated ([IntegratedGPU]), the answer was "not supported" rather than
// a failure, and MIG is off. This excludes a card that fell off the bus, a driver
// that does not match its library and a MIG slice. A Grace-Hopper GPU is discrete
// and keeps its own memory.
package hwdetect

import (
	"context"
	"slices"
	"time"
)

// A Detector describes the machine. Its methods are safe for concurrent use.
type Detector interface {
	// Detect returns the description. What cannot be found keeps its zero value
	// and is listed in Machine.Gaps. An error means that nothing could be found
	// at all, or that ctx is done; it then matches ctx.Err().
	Detect(ctx context.Context) (*Machine, error)
}

// A TelemetryReader reads the state of the GPUs: load, memory, temperature, power
// and faults. Its methods are safe for concurrent use.
type TelemetryReader interface {
	// Telemetry returns the latest reading, and when it was taken. It does not
	// wait for a slow GPU: it returns an older reading while the next one is
	// fetched concurrently.
	Telemetry(ctx context.Context) (Telemetry, error)
}

// A Machine is a description of a computer. It is immutable.
type Machine struct {
	Hostname        string     `json:"hostname"`
	EnvironmentType string     `json:"environment_type"` // dgx_spark, dgx, wsl2, docker, container, native_linux, native_macos, native_windows, unknown
	OS              string     `json:"os"`               // system and kernel release, as in Linux-5.15.0-1042-nvidia
	Kernel          string     `json:"kernel"`           // the kernel's build string
	GPUs            []GPU      `json:"gpus"`
	OtherGPUs       []OtherGPU `json:"other_gpus,omitempty"`          // of AMD and Intel, which benchmarks do not get
	DriverVersion   string     `json:"driver_version"`                // of the NVIDIA driver
	CUDAVersion     string     `json:"cuda_version"`                  // of the installed CUDA toolkit, such as 12.4, as nvcc prints it; empty without one
	CUDADriver      string     `json:"cuda_driver_version,omitempty"` // the newest CUDA version that the driver supports
	CPU             CPU        `json:"cpu"`
	MemoryBytes     int64      `json:"memory_bytes"`
	MemoryType      string     `json:"memory_type"` // such as DDR5; empty if unknown
	Storage         Storage    `json:"storage"`     // the disk that holds the model directory
	Gaps            []Gap      `json:"gaps,omitempty"`
}

// Incomplete reports whether a probe or source did not answer in time. NVML, for
// example, can be too slow when it has to wake eight GPUs. Another call of Detect
// may find what is missing.
func (m *Machine) Incomplete() bool {
	return slices.ContainsFunc(m.Gaps, func(g Gap) bool { return g.Incomplete })
}

// A GPU is one graphics processor.
type GPU struct {
	Index             int     `json:"index"`
	Model             string  `json:"model"`
	UUID              string  `json:"uuid,omitempty"`
	PCIBus            string  `json:"pci_bus,omitempty"`            // such as 0000:01:00.0
	MemoryBytes       int64   `json:"memory_bytes"`                 // with Unified, the machine's RAM
	Unified           bool    `json:"unified,omitempty"`            // whether it shares the machine's RAM, as GB10 does
	ComputeCapability string  `json:"compute_capability,omitempty"` // such as 9.0
	PowerLimitW       float64 `json:"power_limit_w,omitempty"`
	MIG               *MIG    `json:"mig,omitempty"`          // nil if the GPU has no MIG
	NVLinkPeers       []int   `json:"nvlink_peers,omitempty"` // indexes of the GPUs that it reaches over NVLink

	Links    []GPULink `json:"links,omitempty"`     // the paths to other GPUs over PCIe
	NUMANode *int      `json:"numa_node,omitempty"` // of the CPUs that it is attached to; nil if unknown, or if the machine has one
	CPUs     string    `json:"cpus,omitempty"`      // that are close to it, as a list in the form of cpuset(7)

	// Fault is why the GPU can't be used, for example because it fell off the bus. It
	// is empty if the GPU is usable, or if that isn't known.
	Fault string `json:"fault,omitempty"`
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

// CPU describes the machine's processors, all sockets together.
type CPU struct {
	Model   string `json:"model"`
	Arch    string `json:"arch"`    // in Docker's names: amd64, arm64
	Cores   int    `json:"cores"`   // physical
	Threads int    `json:"threads"` // logical
	Sockets int    `json:"sockets,omitempty"`
}

// Storage is a block device.
type Storage struct {
	Brand string `json:"brand"` // the manufacturer; Unknown if KITT has no name for it
	Model string `json:"model"`
	Type  string `json:"type"` // nvme, ssd, hdd; empty if unknown
}

// A Gap is something that could not be found.
type Gap struct {
	What   string `json:"what"` // the JSON name of the field, such as memory_type, or the name of a GPU source
	Reason string `json:"reason"`

	// Incomplete is set if the answer did not come in time. A later Detect may
	// have it.
	Incomplete bool `json:"late,omitempty"`
}

// Telemetry is one reading of all GPUs.
type Telemetry struct {
	Time time.Time      `json:"time"` // when it was read; zero if there is no reading yet
	GPUs []GPUTelemetry `json:"gpus"`

	// Fault is why a GPU cannot be used, for example because it fell off the
	// bus. It is empty if all GPUs are usable.
	Fault string `json:"sick,omitempty"`
}

// GPUTelemetry is one reading of one GPU. A nil field could not be read.
type GPUTelemetry struct {
	Index           int      `json:"index"`
	UtilizationPct  *float64 `json:"utilization_pct,omitempty"` // 0 to 100
	MemoryUsedBytes *int64   `json:"memory_used_bytes,omitempty"`
	TemperatureC    *float64 `json:"temperature_c,omitempty"`
	PowerW          *float64 `json:"power_w,omitempty"`
	ThrottleReasons []string `json:"throttle_reasons,omitempty"` // see [ThrottleReasons]; nil if they could not be read
	ECCUncorrected  *int64   `json:"ecc_uncorrected,omitempty"`  // since the driver was loaded
	LastXID         *int64   `json:"last_xid,omitempty"`

	SMClockMHz         *int     `json:"sm_clock_mhz,omitempty"`
	MemoryClockMHz     *int     `json:"memory_clock_mhz,omitempty"`
	PerformanceState   *int     `json:"performance_state,omitempty"` // 0 is the fastest, 15 the slowest
	MemoryTemperatureC *float64 `json:"memory_temperature_c,omitempty"`
	PCIeGen            *int     `json:"pcie_gen,omitempty"` // of the link now; an idle GPU lowers it
	PCIeWidth          *int     `json:"pcie_width,omitempty"`
}

// UtilizationPct returns the mean utilisation of the GPUs that report one, from 0
// to 100, and whether any does.
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

// MemoryUsedBytes returns the memory in use, summed over the GPUs that report it,
// and whether any does.
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
