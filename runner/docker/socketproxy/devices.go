package socketproxy

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kirizan/kitt-agent/runner"
)

// DeviceRequests asks the engine for GPUs, as they are named in runner.Job. A Count of
// -1 means all of them; with DeviceIDs it has to be 0.
func DeviceRequests(gpus []string) []container.DeviceRequest {
	switch {
	case len(gpus) == 0:
		return nil
	case slices.Equal(gpus, []string{runner.AllGPUs}):
		return []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	}
	return []container.DeviceRequest{{DeviceIDs: gpus, Capabilities: [][]string{{"gpu"}}}}
}

// visible returns the GPUs that NVIDIA's runtime shows to a container, where it is the
// engine's default one: it doesn't look at device requests then, but at this variable,
// which many images set to all.
func (p Policy) visible(host *container.HostConfig) string {
	if len(host.DeviceRequests) == 0 {
		return "void" // as if there were no such runtime
	}
	return strings.Join(p.GPUs, ",")
}

// choosesDevices reports whether a variable tells NVIDIA's runtime which devices a
// container gets.
func choosesDevices(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return name == "NVIDIA_VISIBLE_DEVICES" || name == "NVIDIA_IMEX_CHANNELS" || strings.HasPrefix(name, "NVIDIA_MIG_")
}

// deviceTargets are where a mount tells NVIDIA's runtime which devices a container
// gets, if it is set up that way.
var deviceTargets = []string{"/var/run/nvidia-container-devices", "/run/nvidia-container-devices"}
