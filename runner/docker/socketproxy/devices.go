package socketproxy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kirizan/kitt-agent/runner"
)

// Devices are the GPUs that a container gets. The zero value is none.
type Devices struct {
	GPUs []string // as in runner.Job
	CDI  []string // their names in a CDI specification, all of them, or none
}

// Requests asks the engine for the GPUs: by CDI, or by their names in runner.Job. A Count
// of -1 means all of them; with DeviceIDs it has to be 0.
func (d Devices) Requests() []container.DeviceRequest {
	gpu := [][]string{{"gpu"}}
	switch {
	case len(d.CDI) > 0:
		return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: d.CDI}}
	case len(d.GPUs) == 0:
		return nil
	case slices.Equal(d.GPUs, []string{runner.AllGPUs}):
		return []container.DeviceRequest{{Count: -1, Capabilities: gpu}}
	}
	return []container.DeviceRequest{{DeviceIDs: d.GPUs, Capabilities: gpu}}
}

// VisibleDevices is the variable by which NVIDIA's runtime chooses the GPUs of a container
// where it is the engine's default one: it doesn't look at device requests then, and many
// images set the variable to all.
const VisibleDevices = "NVIDIA_VISIBLE_DEVICES"

// Visible returns the value of VisibleDevices. As void, NVIDIA's runtime adds nothing of
// its own: there are no GPUs, or CDI brings them.
func (d Devices) Visible() string {
	if len(d.GPUs) == 0 || len(d.CDI) > 0 {
		return "void"
	}
	return strings.Join(d.GPUs, ",")
}

// devices returns those of a container, which may have asked for GPUs.
func (p Policy) devices(host *container.HostConfig) Devices {
	if len(host.DeviceRequests) == 0 {
		return Devices{}
	}
	return Devices{p.GPUs, p.CDI}
}

// cpuset returns the CPUs and memory nodes of a container that asks for some.
func (p Policy) cpuset(asked container.Resources) (cpus, nodes string) {
	return cmp.Or(p.CPUs, asked.CpusetCpus), cmp.Or(p.MemoryNodes, asked.CpusetMems)
}

// choosesDevices reports whether a variable tells NVIDIA's runtime which devices a
// container gets.
func choosesDevices(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return name == VisibleDevices || name == "NVIDIA_IMEX_CHANNELS" || strings.HasPrefix(name, "NVIDIA_MIG_")
}

// deviceTargets are where a mount tells NVIDIA's runtime which devices a container
// gets, if it is set up that way.
var deviceTargets = []string{"/var/run/nvidia-container-devices", "/run/nvidia-container-devices"}
