package hwdetect

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// linuxProbes are the probes of a Linux machine whose file tree is root.
func linuxProbes(cfg Config, root fs.FS) []probe {
	text := func(what, file string, write func(*Machine, string)) probe {
		return probe{what, cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			s := readLine(root, file)
			if s == "" {
				return nil, errors.New(file + " cannot be read")
			}
			return func(m *Machine) { write(m, s) }, nil
		}}
	}
	return []probe{
		text("hostname", "proc/sys/kernel/hostname", func(m *Machine, s string) { m.Hostname = s }),
		text("os", "proc/sys/kernel/osrelease", func(m *Machine, s string) { m.OS = "Linux-" + s }),
		text("kernel", "proc/sys/kernel/version", func(m *Machine, s string) { m.Kernel = s }),
		{"environment_type", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			t := environmentType(root)
			return func(m *Machine) { m.EnvironmentType = t }, nil
		}},
		{"cpu", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			c, err := detectCPU(root)
			return func(m *Machine) { m.CPU = c }, err
		}},
		{"memory_bytes", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			n, err := memTotal(root)
			return func(m *Machine) { m.MemoryBytes = n }, err
		}},
		{"memory_type", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			t, err := memoryType(root)
			return func(m *Machine) { m.MemoryType = t }, err
		}},
		{"storage", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			s, err := detectStorage(root, cfg.ModelDir)
			return func(m *Machine) { m.Storage = s }, err
		}},
		{"other_gpus", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			found := otherGPUs(root)
			return func(m *Machine) { m.OtherGPUs = found }, nil
		}},
		{"cuda_version", cfg.ProbeTimeout, func(context.Context) (func(*Machine), error) {
			v, err := cudaToolkit(root)
			return func(m *Machine) { m.CUDAVersion = v }, err
		}},
	}
}

// sortGaps sorts gaps, so that their order is the same in each run.
func sortGaps(gaps []Gap) {
	slices.SortStableFunc(gaps, func(a, b Gap) int { return strings.Compare(a.What, b.What) })
}
