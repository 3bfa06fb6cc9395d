package socketproxy

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// A creation is a rewritten request to create a container.
type creation struct {
	query url.Values
	body  container.CreateRequest
}

// rewrite returns the container that is created for a benchmark's request. network is
// what its NetworkMode becomes; empty leaves host, bridge and none as they are asked for.
func (p Policy) rewrite(query url.Values, asked container.CreateRequest, network container.NetworkMode) (creation, error) {
	if asked.Config == nil {
		return creation{}, invalid("the container's configuration is missing")
	}
	if asked.HostConfig == nil {
		asked.HostConfig = &container.HostConfig{}
	}
	if err := refuseOthers(asked); err != nil {
		return creation{}, err
	}
	image, err := p.allowedImage(asked.Image)
	if err != nil {
		return creation{}, err
	}
	host, err := p.hostConfig(asked.HostConfig, network)
	if err != nil {
		return creation{}, err
	}
	c := creation{query: url.Values{}, body: container.CreateRequest{Config: p.config(asked.Config, image, host), HostConfig: host}}
	if name := strings.TrimPrefix(query.Get("name"), "/"); name != "" {
		if !refPattern.MatchString(name) {
			return creation{}, invalid("%.200q is not a name of a container", name)
		}
		c.query.Set("name", p.unique(name))
	}
	if platform := query.Get("platform"); platform != "" {
		if !platformName.MatchString(platform) {
			return creation{}, invalid("%.100q is not a platform", platform)
		}
		c.query.Set("platform", platform)
	}
	return c, nil
}

var platformName = regexp.MustCompile(`^[a-z0-9]+(/[a-z0-9.]+){0,2}$`)

// unique returns the name that a container gets: kitt names its containers by the
// second, and so does another job's.
func (p Policy) unique(name string) string { return name + "-" + p.Job[:min(16, len(p.Job))] }

// config returns the portable part of a container.
func (p Policy) config(asked *container.Config, image image, host *container.HostConfig) *container.Config {
	c := &container.Config{
		User: asked.User, Tty: asked.Tty,
		AttachStdin: asked.AttachStdin, AttachStdout: asked.AttachStdout, AttachStderr: asked.AttachStderr,
		OpenStdin: asked.OpenStdin, StdinOnce: asked.StdinOnce,
		Cmd: asked.Cmd, Entrypoint: asked.Entrypoint, WorkingDir: asked.WorkingDir,
		Healthcheck: asked.Healthcheck, StopSignal: asked.StopSignal, StopTimeout: asked.StopTimeout,
		Image:  image.String(),
		Labels: map[string]string{LabelEngine: p.Job},
	}
	maps.Copy(c.Labels, p.Labels)
	c.Env = append(slices.DeleteFunc(slices.Clone(asked.Env), choosesDevices), VisibleDevices+"="+p.devices(host).Visible())
	return c
}

// memory returns the limit of a container's RAM in bytes, of which it asks for some; 0
// is no limit.
func (p Policy) memory(asked int64) int64 {
	if p.Memory == 0 || asked > 0 && asked < p.Memory {
		return asked
	}
	return p.Memory
}

// hostConfig returns the part of a container that has to do with the machine.
func (p Policy) hostConfig(asked *container.HostConfig, network container.NetworkMode) (*container.HostConfig, error) {
	mounts, err := p.mounts(asked)
	if err != nil {
		return nil, err
	}
	pids := p.Pids
	cpus, nodes := p.cpuset(asked.Resources)
	host := &container.HostConfig{
		Mounts: mounts, NetworkMode: network, AutoRemove: asked.AutoRemove, CapDrop: asked.CapDrop,
		IpcMode: asked.IpcMode, ReadonlyRootfs: asked.ReadonlyRootfs, Init: asked.Init,
		ShmSize: min(asked.ShmSize, p.ShmMax),
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": "64m", "max-file": "2",
		}},
		Resources: container.Resources{
			Memory: p.memory(asked.Memory), NanoCPUs: asked.NanoCPUs, CpusetCpus: cpus, CpusetMems: nodes,
			Ulimits: asked.Ulimits, PidsLimit: &pids,
		},
	}
	host.DeviceRequests = p.devices(asked).Requests()
	if network == "" {
		host.NetworkMode = asked.NetworkMode
	}
	return host, nil
}
