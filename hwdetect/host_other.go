//go:build !linux && !darwin

package hwdetect

import (
	"context"
	"runtime"
)

// systemProbes are the probes that use only the Go runtime.
func (c Config) systemProbes() []probe {
	return []probe{
		c.unsupported("os"),
		{"environment_type", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			environment := "unknown"
			if runtime.GOOS == "windows" {
				environment = "native_windows"
			}
			return func(m *Machine) { m.EnvironmentType = environment }, nil
		}},
		{"cpu", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			return func(m *Machine) { m.CPU = CPU{Arch: runtime.GOARCH, Threads: runtime.NumCPU()} }, nil
		}},
		c.unsupported("memory_bytes"),
	}
}
