package docker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// slow is by how much longer than others the calls may take that make the
// engine write or unpack much.
const slow = 4

// programTarget is where the supervisor's program is in a container.
const programTarget = "/kitt-supervise"

// describe returns the job's container as kitt needs it: the directories at the
// paths that they have outside, because the engine containers that kitt starts
// mount them by these, and a socket of the engine. The supervisor is its first
// process.
func (r *Runner) describe(ctx context.Context, job runner.Job, image string, p program.Program) (*container.Config, *container.HostConfig, error) {
	socket, host := r.socketOf(job)
	binds := []bind{
		{from: job.ResultsDir, to: job.ResultsDir, label: true},
		{from: runDir(job), to: runDir(job), label: true},
		{from: p.Path, to: programTarget, readOnly: true, label: true},
	}
	if socket.from != "" {
		binds = append(binds, socket)
	}
	links, err := r.modelLinks(job)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range job.ModelPaths() {
		binds = append(binds, bind{from: path, to: path, readOnly: true})
	}
	devices := r.devices(ctx, job)
	env := append(slices.Clone(r.config.Env), runner.PhaseVar+"="+job.PhaseFile())
	env = append(env, socketproxy.VisibleDevices+"="+devices.Visible())
	if host != "" {
		env = append(env, "DOCKER_HOST="+host)
	}
	init := false // the engine may have been told to put one in front
	hostConfig := &container.HostConfig{
		Init:           &init,
		NetworkMode:    "host",
		LogConfig:      logConfig(),
		ReadonlyRootfs: r.config.ReadOnlyRoot,
		Mounts:         links,
		Resources: container.Resources{
			DeviceRequests: devices.Requests(), Memory: r.memoryLimit(job), PidsLimit: &r.config.Pids,
			CpusetCpus: job.Host.CPUs, CpusetMems: job.Host.MemoryNodes,
		},
	}
	if r.config.Network == socketproxy.NetworkJob {
		hostConfig.NetworkMode = "bridge"
	}
	addBinds(hostConfig, binds)
	config := &container.Config{
		Image:      image,
		Entrypoint: r.entrypoint(job, p, "kitt"),
		Cmd:        arguments(job),
		Env:        env,
		Labels: map[string]string{
			LabelCommand: job.ID, LabelOwner: r.config.Owner, LabelSupervised: strconv.Itoa(supervisor.Version),
		},
	}
	if r.config.EngineSocket != SocketHost {
		who, err := r.identify(ctx, image)
		if err != nil {
			return nil, nil, err
		}
		who.apply(config, hostConfig)
		hostConfig.CapAdd = append(hostConfig.CapAdd, r.config.CapAdd...)
	}
	return config, hostConfig, nil
}

// modelLinks returns the mounts that links in the job's model need.
func (r *Runner) modelLinks(job runner.Job) (mounts []mount.Mount, err error) {
	for _, path := range job.ModelPaths() {
		more, err := socketproxy.LinkMounts(path, path, r.config.LinkDirs)
		if err != nil {
			return nil, fmt.Errorf("look for links in the model: %w", err)
		}
		mounts = append(mounts, more...)
	}
	return mounts, nil
}

// memoryLimit returns the most bytes of RAM that a container of a job may use; 0 for no
// limit.
func (r *Runner) memoryLimit(job runner.Job) int64 {
	return share(memory()/100*int64(r.config.MemoryPercent), job)
}

// share returns a job's share of some memory.
func share(bytes int64, job runner.Job) int64 {
	if s := job.Host.MemoryShare; s > 0 && s < 1 {
		return int64(float64(bytes) * s)
	}
	return bytes
}

// socketOf returns the mount of the engine's socket that a job gets, none if it gets
// none, and the engine's address in its container; an empty one where kitt finds it by
// itself.
func (r *Runner) socketOf(job runner.Job) (socket bind, host string) {
	switch r.config.EngineSocket {
	case SocketProxy:
		return bind{from: socketproxy.SocketDir(proxyDir(job)), to: socketproxy.Target, readOnly: true, label: true}, socketproxy.DockerHost
	case SocketNone:
		return bind{}, ""
	case SocketHost:
	}
	path := r.socket()
	if path != usualSocket {
		host = "unix://" + path
	}
	return bind{from: path, to: path}, host
}

// entrypoint returns the supervisor's command line for a job, up to the command's name.
func (r *Runner) entrypoint(job runner.Job, p program.Program, command string) []string {
	args := slices.Concat([]string{programTarget}, p.Args, []string{
		"-dir", runDir(job),
		"-limit", strconv.FormatInt(supervisor.LimitOf(r.config.LogLimit), 10),
		"-done", strconv.Itoa(supervisor.StatusDone),
	})
	if job.GPUFiles > 0 {
		args = append(args, "-gpus", strconv.Itoa(job.GPUFiles))
		if job.GPUsOnly {
			args = append(args, "-gpus-only")
		}
	}
	return append(args, "--", command)
}

// logConfig says how the engine keeps what the supervisor itself prints, some
// lines that say where the output is. The benchmark prints nothing there.
func logConfig() container.LogConfig {
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"max-size": "1m", "max-file": "1", "compress": "false",
	}}
}

// arguments returns kitt's, in the order that its own agent has them.
func arguments(job runner.Job) []string {
	mode := job.Mode
	job.Mode = ""
	args := append(job.Arguments(), "--auto-pull")
	if mode != "" {
		args = append(args, "--mode", mode)
	}
	return args
}

// real returns a path as it is mounted: absolute, without symbolic links.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// checkPaths refuses paths that would be others in a container than outside, or
// that kitt can't hand on to the engine containers that it starts: it writes
// them as `-v from:to`, with symbolic links resolved inside its own container.
func checkPaths(job runner.Job) error {
	what := "directory of the results"
	for _, path := range append([]string{job.ResultsDir}, job.ModelPaths()...) {
		if err := checkPath(what, path); err != nil {
			return err
		}
		what = "model"
	}
	return nil
}

func checkPath(what, path string) error {
	if strings.Contains(path, ":") {
		return &runner.Error{
			Class: runner.ClassPath,
			Text:  fmt.Sprintf("the %s lies at %q, and a path with a ':' can't be handed to a container", what, path),
			Fix:   "use a path without ':'",
		}
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return &runner.Error{
			Class: runner.ClassPath, Text: fmt.Sprintf("the %s can't be found: %v", what, err), Err: err,
		}
	}
	if real != path {
		return &runner.Error{
			Class: runner.ClassPath,
			Text:  fmt.Sprintf("the %s at %q is reached by a symbolic link, or not written in full", what, path),
			Fix:   fmt.Sprintf("use its own path, %s", real),
		}
	}
	return nil
}

// start starts a container that was created. Starting one that runs does
// nothing.
func (r *Runner) start(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, slow*r.config.Timeout)
	defer cancel()
	_, err := r.engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	if err == nil {
		return nil
	}
	if e := gpuFault(err); e != nil {
		return e
	}
	return fmt.Errorf("start the container: %w", err)
}

// inspect returns the container's state.
func (r *Runner) inspect(ctx context.Context, id string) (*container.State, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	c, err := r.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	if c.Container.State == nil {
		return nil, errors.New("the Docker engine tells no state of the container")
	}
	return c.Container.State, nil
}

// ended says whether a container in that state won't print any more.
func ended(s *container.State) bool {
	return s.Status == container.StateExited || s.Status == container.StateDead
}

// stopTime is what the engine gets to stop a container beyond the grace, whose
// processes a SIGKILL ends in moments.
const stopTime = 10 * time.Second

// stop stops a container: SIGTERM, then SIGKILL after grace. One that is gone
// or has ended is as good as stopped.
func (r *Runner) stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+min(r.config.Timeout, stopTime))
	defer cancel()
	seconds := int((grace + time.Second - 1) / time.Second)
	_, err := r.engine.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("stop the container: %w", err)
	}
	return nil
}

// remove kills a container if it runs, and removes it.
func (r *Runner) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, slow*r.config.Timeout)
	defer cancel()
	_, err := r.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the container: %w", err)
	}
	return nil
}
