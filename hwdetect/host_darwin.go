package hwdetect

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"
)

// systemProbes are the probes that use sysctl(3); `sysctl -a` lists its names.
func (c Config) systemProbes() []probe {
	return []probe{
		{"os", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			release, err := unix.Sysctl("kern.osrelease")
			if err != nil {
				return nil, err
			}
			build, err := unix.Sysctl("kern.version")
			return func(m *Machine) { m.OS, m.Kernel = "Darwin-"+release, build }, err
		}},
		{"environment_type", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			return func(m *Machine) { m.EnvironmentType = "native_macos" }, nil
		}},
		{"cpu", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			found := CPU{Arch: runtime.GOARCH, Threads: runtime.NumCPU()}
			var err error
			if found.Model, err = unix.Sysctl("machdep.cpu.brand_string"); err != nil {
				return nil, err
			}
			cores, err := unix.SysctlUint32("hw.physicalcpu")
			found.Cores = int(cores)
			return func(m *Machine) { m.CPU = found }, err
		}},
		{"memory_bytes", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			bytes, err := unix.SysctlUint64("hw.memsize")
			return func(m *Machine) { m.MemoryBytes = int64(bytes) }, err
		}},
	}
}
