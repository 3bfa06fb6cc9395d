//go:build !linux

package hwdetect

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
)

// hostProbes are the probes of everything but the GPUs.
func (c Config) hostProbes() []probe {
	if c.Root != nil {
		return linuxProbes(c, c.Root)
	}
	return []probe{
		{"hostname", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			name, err := os.Hostname()
			return func(m *Machine) { m.Hostname = name }, err
		}},
		{"os", c.ProbeTimeout, func(ctx context.Context) (func(*Machine), error) {
			info, err := host.InfoWithContext(ctx)
			if err != nil {
				return nil, err
			}
			return func(m *Machine) {
				m.OS = systemName() + "-" + info.KernelVersion
				m.Kernel = info.PlatformVersion
			}, nil
		}},
		{"environment_type", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			return func(m *Machine) { m.EnvironmentType = nativeEnvironment() }, nil
		}},
		{"cpu", c.ProbeTimeout, func(ctx context.Context) (func(*Machine), error) {
			found := CPU{Arch: runtime.GOARCH, Threads: runtime.NumCPU()}
			list, err := cpu.InfoWithContext(ctx)
			if len(list) > 0 {
				found.Model = strings.TrimSpace(list[0].ModelName)
			}
			if n, coresErr := cpu.CountsWithContext(ctx, false); coresErr == nil {
				found.Cores = n
			}
			return func(m *Machine) { m.CPU = found }, err
		}},
		{"memory_bytes", c.ProbeTimeout, func(ctx context.Context) (func(*Machine), error) {
			v, err := mem.VirtualMemoryWithContext(ctx)
			if err != nil {
				return nil, err
			}
			return func(m *Machine) { m.MemoryBytes = int64(v.Total) }, nil
		}},
		c.untold("memory_type"), c.untold("storage"), c.untold("cuda_version"),
	}
}

// untold is the probe of something that is not looked for on this system.
func (c Config) untold(what string) probe {
	return probe{what, c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
		return nil, errors.New("not looked for on " + systemName())
	}}
}

// systemName returns the system's name as uname gives it.
func systemName() string {
	switch runtime.GOOS {
	case "darwin":
		return "Darwin"
	case "windows":
		return "Windows"
	}
	return runtime.GOOS
}

func nativeEnvironment() string {
	switch runtime.GOOS {
	case "darwin":
		return "native_macos"
	case "windows":
		return "native_windows"
	}
	return "unknown"
}
