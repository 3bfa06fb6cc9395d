//go:build !linux

package hwdetect

import (
	"context"
	"errors"
	"os"
	"runtime"
)

// hostProbes are the probes of everything but the GPUs. If Root is set, they
// describe the Linux machine that it was recorded on.
func (c Config) hostProbes() []probe {
	if c.Root != nil {
		return linuxProbes(c, c.Root)
	}
	hostname := probe{"hostname", c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
		name, err := os.Hostname()
		return func(m *Machine) { m.Hostname = name }, err
	}}
	return append(append([]probe{hostname}, c.systemProbes()...),
		c.unsupported("memory_type"), c.unsupported("storage"), c.unsupported("cuda_version"))
}

// unsupported is the probe of something that cannot be detected on this system.
func (c Config) unsupported(what string) probe {
	return probe{what, c.ProbeTimeout, func(context.Context) (func(*Machine), error) {
		return nil, errors.New("not supported on " + runtime.GOOS)
	}}
}
