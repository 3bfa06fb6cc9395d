package hwdetect

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// A Source lists the machine's GPUs. Its methods are safe for concurrent use. A
// System reads telemetry from the sources that are a [TelemetryReader] too.
type Source interface {
	// Name returns the name of the source in gaps and logs, such as "nvml".
	Name() string

	// Inventory returns what the source knows. Unknown fields keep their zero
	// values, with the reason among the gaps. The error matches [ErrAbsent] if
	// the source does not exist on this machine. Inventory returns soon after
	// ctx is done.
	Inventory(ctx context.Context) (Inventory, error)
}

// An Inventory is what one source knows about the machine's GPUs. A GPU with
// Unified set need not have MemoryBytes: the System fills in the RAM.
type Inventory struct {
	GPUs          []GPU
	DriverVersion string // of the NVIDIA driver
	CUDADriver    string // the newest CUDA version that the driver supports
	Gaps          []Gap
}

// ErrAbsent is matched by the error of a source that does not exist on this
// machine, such as NVML if no driver is installed. This is not a fault.
var ErrAbsent = errors.New("not on this machine")

// IntegratedGPU reports whether a GPU is on one chip with the CPU and shares its
// memory. It decides by the compute capability or, if that is empty, by the model.
// Only integrated GPUs have the compute capabilities 5.3 (Tegra X1), 6.2 (X2),
// 7.2 (Xavier), 8.7 (Orin), 10.1 and 11.0 (Thor) and 12.1 (GB10), see
// https://developer.nvidia.com/cuda-gpus and the legacy list there. Grace-Hopper
// and Grace-Blackwell boards have discrete GPUs (9.0, 10.0, 10.3).
func IntegratedGPU(model, computeCapability string) bool {
	switch computeCapability {
	case "5.3", "6.2", "7.2", "8.7", "10.1", "11.0", "12.1":
		return true
	case "":
	default:
		return false
	}
	for _, word := range strings.FieldsFunc(model, func(r rune) bool { return r == ' ' || r == '-' || r == '(' || r == ')' }) {
		switch strings.ToLower(word) {
		case "gb10", "orin", "xavier", "thor", "nvgpu", "tegra":
			return true
		}
	}
	return false
}

// complete reports whether inv has every field that a later source could add and
// that matters.
func (inv *Inventory) complete() bool {
	if len(inv.GPUs) == 0 || inv.DriverVersion == "" || inv.CUDADriver == "" {
		return false
	}
	for _, g := range inv.GPUs {
		if g.Model == "" || g.UUID == "" || g.MemoryBytes == 0 && !g.Unified {
			return false
		}
	}
	return true
}

// add fills what inv lacks from the inventory of a later source. It matches GPUs
// by UUID or bus address. If neither is known on both sides it matches them by
// index, provided that both list the same number of GPUs.
func (inv *Inventory) add(other Inventory) {
	if inv.DriverVersion == "" {
		inv.DriverVersion = other.DriverVersion
	}
	if inv.CUDADriver == "" {
		inv.CUDADriver = other.CUDADriver
	}
	inv.Gaps = append(inv.Gaps, other.Gaps...)
	sameNumber := len(inv.GPUs) == len(other.GPUs)
	for i, g := range other.GPUs {
		mine := inv.find(g)
		switch {
		case mine != nil:
		case sameNumber && inv.GPUs[i].UUID == "" && inv.GPUs[i].PCIBus == "":
			mine = &inv.GPUs[i]
		default:
			g.Index = inv.freeIndex(g.Index)
			inv.GPUs = append(inv.GPUs, g)
			continue
		}
		mine.fill(g)
	}
}

// freeIndex returns index or, if a GPU already has it, the lowest unused one.
func (inv *Inventory) freeIndex(index int) int {
	taken := func(i int) bool {
		return slices.ContainsFunc(inv.GPUs, func(g GPU) bool { return g.Index == i })
	}
	if !taken(index) {
		return index
	}
	index = 0
	for taken(index) {
		index++
	}
	return index
}

func (inv *Inventory) find(g GPU) *GPU {
	for i := range inv.GPUs {
		mine := &inv.GPUs[i]
		if g.UUID != "" && mine.UUID == g.UUID || g.PCIBus != "" && mine.PCIBus == g.PCIBus {
			return mine
		}
	}
	return nil
}

// fill sets the unknown fields of g from other.
func (g *GPU) fill(other GPU) {
	if g.Model == "" {
		g.Model = other.Model
	}
	if g.UUID == "" {
		g.UUID = other.UUID
	}
	if g.PCIBus == "" {
		g.PCIBus = other.PCIBus
	}
	if g.MemoryBytes == 0 && !g.Unified {
		g.MemoryBytes, g.Unified = other.MemoryBytes, other.Unified
	}
	if g.ComputeCapability == "" {
		g.ComputeCapability = other.ComputeCapability
	}
	if g.PowerLimitW == 0 {
		g.PowerLimitW = other.PowerLimitW
	}
	if g.MIG == nil {
		g.MIG = other.MIG
	} else if len(g.MIG.Instances) == 0 && other.MIG != nil {
		g.MIG = other.MIG
	}
	if g.NVLinkPeers == nil {
		g.NVLinkPeers = other.NVLinkPeers
	}
	if g.Links == nil {
		g.Links = other.Links
	}
	if g.NUMANode == nil {
		g.NUMANode = other.NUMANode
	}
	if g.CPUs == "" {
		g.CPUs = other.CPUs
	}
}

// BusAddress returns a PCI address in the form that Linux uses, such as
// 0000:01:00.0. NVML and nvidia-smi write the domain with eight digits and use
// capitals.
func BusAddress(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	domain, rest, ok := strings.Cut(s, ":")
	if ok && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return s
}
