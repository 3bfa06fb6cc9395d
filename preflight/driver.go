package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/kirizan/kitt-agent/hwdetect"
)

// Driver checks that the NVIDIA driver works, and lists its GPUs. If d is a
// [hwdetect.TelemetryReader] the check also fails on a fault that it reports, since
// a driver can list a GPU that has fallen off the bus.
func Driver(d hwdetect.Detector) Check {
	const install = "install the NVIDIA driver for your distribution, such as `sudo ubuntu-drivers install`, and restart the machine"
	return Func{Label: "nvidia driver", Must: true, Do: func(ctx context.Context) Result {
		m, err := d.Detect(ctx)
		if err != nil {
			return Result{Status: Fail, Details: err.Error()}
		}
		reasons := gpuGaps(m)
		if t, ok := d.(hwdetect.TelemetryReader); ok {
			if reading, err := t.Telemetry(ctx); err == nil && reading.Fault != "" {
				return Result{Status: Fail, Details: reading.Fault, Fix: "restart the machine"}
			}
		}
		switch {
		case len(m.GPUs) == 0 && m.DriverVersion == "":
			return Result{Status: Fail, Details: reasons, Fix: install}
		case len(m.GPUs) == 0:
			return Result{Status: Fail, Details: fmt.Sprintf("driver %s is loaded but lists no GPU: %s", m.DriverVersion, reasons), Fix: "nvidia-smi"}
		case !usable(m):
			return Result{Status: Fail, Details: fmt.Sprintf("driver %s does not answer: %s", m.DriverVersion, reasons), Fix: "restart the machine, or reload the nvidia kernel module"}
		}
		r := Result{Status: OK, Details: fmt.Sprintf("%s, driver %s", gpuSummary(m), m.DriverVersion)}
		if m.CUDADriver != "" {
			r.Details += ", CUDA up to " + m.CUDADriver
		}
		return r
	}}
}

// usable reports whether the driver itself described a GPU. For a broken driver
// there is only the name, from the last source.
func usable(m *hwdetect.Machine) bool {
	for _, g := range m.GPUs {
		if g.MemoryBytes > 0 || g.ComputeCapability != "" {
			return true
		}
	}
	return false
}

func gpuSummary(m *hwdetect.Machine) string {
	g := m.GPUs[0]
	s := fmt.Sprintf("%s %d GiB", g.Model, hwdetect.GiB(g.MemoryBytes))
	if g.Unified {
		s += " (unified)"
	}
	if n := len(m.GPUs); n > 1 {
		s = fmt.Sprintf("%d × %s", n, s)
	}
	return s
}

// gpuGaps joins the reasons of the gaps that concern GPUs.
func gpuGaps(m *hwdetect.Machine) string {
	var reasons []string
	for _, g := range m.Gaps {
		switch g.What {
		case "gpus", "memory_bytes", "driver files":
			reasons = append(reasons, g.Reason)
		case "nvml", "nvidia-smi":
			reasons = append(reasons, g.What+": "+g.Reason)
		}
	}
	if len(reasons) == 0 {
		return "the reason is not known"
	}
	return strings.Join(reasons, "; ")
}
