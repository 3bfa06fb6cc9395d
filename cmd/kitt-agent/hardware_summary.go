package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// writeHardware writes what is known of a machine for people, with the readings
// of its GPUs where t has any.
func writeHardware(w io.Writer, m *hwdetect.Machine, t hwdetect.Telemetry) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s%s\n", label, fmt.Sprintf(format, args...))
	}
	line("Host", "%s (%s)", known(m.Hostname), known(m.EnvironmentType))
	line("System", "%s %s", known(m.OS), m.Kernel)
	if len(m.GPUs) == 0 {
		line("GPUs", "none")
	}
	readings := make(map[int]hwdetect.GPUTelemetry)
	for _, r := range t.GPUs {
		readings[r.Index] = r
	}
	for _, g := range m.GPUs {
		line(fmt.Sprintf("GPU %d", g.Index), "%s", gpuSummary(g))
		for _, detail := range []string{gpuDetails(g), readingSummary(readings[g.Index])} {
			if detail != "" {
				line("", "%s", detail)
			}
		}
		if g.MIG != nil {
			for _, s := range g.MIG.Instances {
				line("", "MIG %s, %s %s", s.Profile, memorySize(s.MemoryBytes), s.UUID)
			}
		}
	}
	for _, g := range m.OtherGPUs {
		line("Other GPU", "%s", otherGPU(g))
	}
	if t.Fault != "" {
		line("GPU trouble", "%s", t.Fault)
	}
	driver := orNone(m.DriverVersion)
	if m.CUDADriver != "" {
		driver += ", serves CUDA up to " + m.CUDADriver
	}
	line("NVIDIA driver", "%s", driver)
	line("CUDA toolkit", "%s", orNone(m.CUDAVersion))
	line("CPU", "%s, %d cores, %d threads, %s", known(m.CPU.Model), m.CPU.Cores, m.CPU.Threads, m.CPU.Arch)
	line("Memory", "%s %s", memorySize(m.MemoryBytes), m.MemoryType)
	disk := strings.TrimSpace(m.Storage.Model + " " + m.Storage.Type)
	if b := m.Storage.Brand; b != "" && b != "Unknown" && !strings.HasPrefix(strings.ToLower(disk), strings.ToLower(b)) {
		disk = b + " " + disk
	}
	line("Model disk", "%s", known(disk))
	line("Fingerprint", "%s", m.Fingerprint())
	if len(m.Gaps) > 0 {
		b.WriteString("\nNot found out\n")
		for _, g := range m.Gaps {
			fmt.Fprintf(&b, "  %s: %s\n", g.What, g.Reason)
		}
	}
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

// gpuSummary returns a GPU's first line.
func gpuSummary(g hwdetect.GPU) string {
	s := known(g.Model) + ", "
	if g.MemoryBytes > 0 {
		s += memorySize(g.MemoryBytes)
	} else {
		s += "memory unknown"
	}
	if g.Unified {
		s += " shared with the CPU"
	}
	if g.ComputeCapability != "" {
		s += ", compute capability " + g.ComputeCapability
	}
	if g.PowerLimitW > 0 {
		s += fmt.Sprintf(", limit %.0f W", g.PowerLimitW)
	}
	return s
}

// gpuDetails returns a GPU's second line.
func gpuDetails(g hwdetect.GPU) string {
	var parts []string
	for _, s := range []string{g.UUID, g.PCIBus} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if g.MIG != nil {
		mode := "MIG off"
		if g.MIG.Enabled {
			mode = "MIG on"
		}
		parts = append(parts, mode)
	}
	if len(g.NVLinkPeers) > 0 {
		parts = append(parts, "NVLink to "+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(g.NVLinkPeers)), " "), "[]"))
	}
	if g.NUMANode != nil {
		parts = append(parts, fmt.Sprintf("NUMA node %d", *g.NUMANode))
	}
	return strings.Join(parts, ", ")
}

// otherGPU describes a GPU that benchmarks do not get.
func otherGPU(g hwdetect.OtherGPU) string {
	s := g.Vendor + " " + strings.TrimPrefix(g.Model, g.Vendor+" ")
	if g.MemoryBytes > 0 {
		s += ", " + memorySize(g.MemoryBytes)
	}
	return s + ", " + g.PCIBus + ", not used by benchmarks"
}

// readingSummary returns a reading in one line.
func readingSummary(r hwdetect.GPUTelemetry) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.UtilizationPct != nil {
		add("%.0f%% busy", *r.UtilizationPct)
	}
	if r.MemoryUsedBytes != nil {
		add("%s in use", memorySize(*r.MemoryUsedBytes))
	}
	if r.TemperatureC != nil {
		add("%.0f °C", *r.TemperatureC)
	}
	if r.PowerW != nil {
		add("%.0f W", *r.PowerW)
	}
	if len(r.ThrottleReasons) > 0 {
		add("slowed by %s", strings.Join(r.ThrottleReasons, ", "))
	}
	if r.ECCUncorrected != nil && *r.ECCUncorrected > 0 {
		add("%d uncorrected memory errors", *r.ECCUncorrected)
	}
	if r.LastXID != nil {
		add("last XID %d", *r.LastXID)
	}
	return strings.Join(parts, ", ")
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func orNone(s string) string {
	if s == "" {
		return "none found"
	}
	return s
}

// memorySize returns a size as GPUs and RAM are sold: in whole GiB, smaller ones
// in more detail.
func memorySize(bytes int64) string {
	switch {
	case bytes < 4<<30:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes < 16<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	}
	return fmt.Sprintf("%d GiB", hwdetect.GiB(bytes))
}

// trimLines removes the blanks at the ends of lines.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n"))
		b.WriteByte('\n')
	}
	return b.String()
}
