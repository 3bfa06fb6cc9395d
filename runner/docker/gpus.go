package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// cdiKind is the kind of NVIDIA's GPUs in a CDI specification, which nvidia-ctk writes.
const cdiKind = "nvidia.com/gpu="

// devices returns the GPUs of a job as the engine is asked for them: by their names in the
// machine's CDI specification if the engine lists all of them. Devices that come by CDI
// survive a reload of systemd's unit files.
func (r *Runner) devices(ctx context.Context, job runner.Job) socketproxy.Devices {
	d := socketproxy.Devices{GPUs: job.GPUs}
	if len(job.GPUs) == 0 {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	info, err := r.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return d // what the engine is asked for next says it
	}
	listed := map[string]bool{}
	for _, device := range info.Info.DiscoveredDevices {
		listed[device.ID] = device.Source == "cdi" || listed[device.ID]
	}
	var names []string
	for _, gpu := range job.GPUs { // AllGPUs has the same word in CDI
		if !listed[cdiKind+gpu] {
			return d
		}
		names = append(names, cdiKind+gpu)
	}
	d.CDI = names
	return d
}

// wrongGPUs returns the error for a benchmark that was not begun because of the GPUs that
// its container saw.
func (f *follower) wrongGPUs(ctx context.Context, exit supervisor.Exit) error {
	name := f.r.engineName(ctx)
	e := &runner.Error{Class: runner.ClassGPURuntime, Err: errNotBegun}
	switch {
	case exit.Fault == supervisor.FaultManyGPUs:
		e.Text = fmt.Sprintf("%s gave the container other GPUs than it was asked for: %s", name, exit.Error)
		e.Fix = "remove default-runtime from /etc/docker/daemon.json, or set accept-nvidia-visible-devices-envvar-when-unprivileged = false in /etc/nvidia-container-runtime/config.toml; then restart the engine"
	case strings.Contains(name, "Podman"):
		e.Text = fmt.Sprintf("%s accepted the request for GPUs and started the container without them: %s", name, exit.Error)
		e.Fix = "use Docker: Podman ignores requests for GPUs that come through Docker's API"
	default:
		e.Text = fmt.Sprintf("%s accepted the request for GPUs and gave the container too few: %s", name, exit.Error)
		e.Fix = "nvidia-smi -L lists the machine's GPUs; kitt-agent preflight tests whether a container gets them"
	}
	return e
}

// seenGPUs returns how many GPUs a run saw, nil if that isn't known, and says so if these
// were more than it was to have.
func (f *follower) seenGPUs(exit supervisor.Exit) *int {
	if exit.Devices < 0 {
		return nil
	}
	if wanted := f.job.GPUFiles; exit.Devices > wanted && (wanted > 0 || len(f.job.GPUs) == 0) {
		// That the log can't take it is found out by the output.
		_ = f.out.WriteMessage(fmt.Sprintf("Warning: the container saw %d GPUs and was to have %d", exit.Devices, wanted))
	}
	return &exit.Devices
}

// engineName returns what the engine calls itself, such as Podman Engine 4.3.1.
func (r *Runner) engineName(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	version, err := r.engine.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "the container engine"
	}
	name := "Docker Engine"
	for _, c := range version.Components {
		if strings.Contains(c.Name, "Podman") {
			name = c.Name
		}
	}
	return strings.Join(slices.DeleteFunc([]string{name, version.Version}, func(s string) bool { return s == "" }), " ")
}
