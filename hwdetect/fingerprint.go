package hwdetect

import (
	"fmt"
	"slices"
	"strings"
)

// Fingerprint returns the one-line description that identifies a machine to a
// KITT server, such as
//
//	NVIDIA-GB10-120GB_Cortex-X925-20c_120GB-DDR5_Samsung-MZALC4T0HBL1-00B07-NVME_580.95.05_Linux-6.11.0-1016-nvidia
//
// Its parts are GPU, CPU, RAM, storage, CUDA toolkit, driver and system. A
// machine must keep the fingerprint that KITT's Python agent gave it, so the
// rules are that agent's: cores are logical cores, low-power memory has the name
// of the standard type (DDR5 for LPDDR5X), and every disk that is not NVMe is an
// SSD.
func (m *Machine) Fingerprint() string {
	var parts []string
	if i := slices.IndexFunc(m.GPUs, func(g GPU) bool { return g.Model != "" }); i >= 0 {
		g := m.GPUs[i]
		part := strings.ReplaceAll(g.Model, " ", "-")
		if gib := GiB(g.MemoryBytes); gib > 0 {
			part += fmt.Sprintf("-%dGB", gib)
		}
		if n := len(m.GPUs); n > 1 {
			part += fmt.Sprintf("-%dx", n)
		}
		parts = append(parts, part)
	}

	cpu := "unknown"
	if words := strings.Fields(m.CPU.Model); len(words) > 0 {
		cpu = words[0]
		if len(words) > 1 {
			cpu += "-" + words[len(words)-1]
		}
	}
	parts = append(parts, fmt.Sprintf("%s-%dc", cpu, m.CPU.logical()))

	ram := fmt.Sprintf("%dGB", GiB(m.MemoryBytes))
	if t := plainMemoryType(m.MemoryType); t != "" {
		ram += "-" + t
	}
	parts = append(parts, ram)

	if s := m.Storage; s.Model != "" {
		part := s.Brand
		if part == "" {
			part = "Unknown"
		}
		part += "-" + strings.ReplaceAll(s.Model, " ", "-")
		switch s.Type {
		case "nvme":
			part += "-NVME"
		case "ssd", "hdd":
			part += "-SSD"
		}
		parts = append(parts, part)
	}
	if m.CUDAVersion != "" {
		parts = append(parts, "CUDA-"+m.CUDAVersion)
	}
	if m.DriverVersion != "" {
		parts = append(parts, m.DriverVersion)
	}
	return strings.Join(append(parts, m.OS), "_")
}

// GiB returns bytes in GiB, rounded to the nearest whole number, as the KITT
// protocol counts memory.
func GiB(bytes int64) int64 {
	const gib = 1 << 30
	return (bytes + gib/2) / gib
}

// logical returns the number of logical CPUs or, if it is not known, that of
// physical cores.
func (c CPU) logical() int {
	if c.Threads > 0 {
		return c.Threads
	}
	return c.Cores
}

// plainMemoryType turns LPDDR5X and LPDDR5 into DDR5, and so on.
func plainMemoryType(t string) string {
	if plain, ok := strings.CutPrefix(t, "LPDDR"); ok {
		return "DDR" + strings.TrimSuffix(plain, "X")
	}
	return t
}
