package hwdetect

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// A Source knows the machine's GPUs. Its methods are safe for concurrent use.
// One that is a [Telemeter] too gives a System its live readings.
type Source interface {
	// Name is what the source is called in gaps and logs, such as "nvml".
	Name() string

	// Inventory returns what the source knows. What it cannot tell is left at
	// its zero value, with the reason among the gaps. The error matches
	// [ErrAbsent] if the source does not exist on this machine. It returns soon
	// after ctx is done.
	Inventory(ctx context.Context) (Inventory, error)
}

// An Inventory is what one source knows about the machine's GPUs. A GPU with
// Unified set need not have MemoryBytes: the System fills in the RAM.
type Inventory struct {
	GPUs          []GPU
	DriverVersion string
	CUDADriver    string // the newest CUDA that the driver can serve
	Gaps          []Gap
}

// ErrAbsent is matched by the error of a source that does not exist on this
// machine, such as NVML where no driver is installed. It is no fault of the
// machine.
var ErrAbsent = errors.New("not on this machine")

// IntegratedGPU reports whether a GPU is part of one chip with the CPU and
// shares its memory, by its compute capability or, where that is unknown, by its
// name. NVIDIA gives such chips compute capabilities of their own: 5.3 (Tegra
// X1), 6.2 (X2), 7.2 (Xavier), 8.7 (Orin), 10.1 and 11.0 (Thor) and 12.1 (GB10),
// see https://developer.nvidia.com/cuda-gpus and the legacy list there.
// Grace-Hopper and Grace-Blackwell boards carry discrete GPUs (9.0, 10.0, 10.3).
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

// whole reports whether no later source could add anything of weight.
func (inv *Inventory) whole() bool {
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

// add fills what inv lacks from what a later source says. GPUs are matched by
// UUID or bus address; where neither is known on both sides, by index, provided
// that both see equally many.
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
			g.Index = inv.free(g.Index)
			inv.GPUs = append(inv.GPUs, g)
			continue
		}
		mine.fill(g)
	}
}

// free returns index or, if a GPU has it already, the lowest that none has.
func (inv *Inventory) free(index int) int {
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

// fill takes over from other what g does not know.
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
}

// BusAddress returns a PCI address in the form that Linux uses, such as
// 0000:01:00.0. NVML and nvidia-smi write the domain with eight digits and in
// capitals.
func BusAddress(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	domain, rest, ok := strings.Cut(s, ":")
	if ok && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return s
}
