package docker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
)

// namePrefix begins the name of each container of this package.
const namePrefix = "kitt-run-"

// slow is by how much longer than others the calls may take that make the
// engine write or unpack much.
const slow = 4

// create creates the job's container, or returns the one that was created
// before a crash.
func (r *Runner) create(ctx context.Context, job runner.Job, image string) (string, error) {
	if id, err := r.find(ctx, job, ""); err != nil || id != "" {
		return id, err
	}
	config, host := r.describe(job, image)
	for _, name := range names(job.ID) {
		id, err := r.createAs(ctx, name, config, host)
		if err != nil && strings.Contains(err.Error(), "max-buffer-size") {
			// The engine was given a buffer for all logs, which takes back that
			// writers wait. Then the buffer is made so big that they hardly lose.
			host.LogConfig.Config["mode"], host.LogConfig.Config["max-buffer-size"] = "non-blocking", "256m"
			id, err = r.createAs(ctx, name, config, host)
		}
		if errdefs.IsConflict(err) {
			if id, err = r.holder(ctx, name, job); err == nil && id == "" {
				continue // another job's container: a longer name is tried
			}
		}
		if err != nil {
			return "", fmt.Errorf("create the container: %w", err)
		}
		return id, nil
	}
	return "", fmt.Errorf("create the container: every name for it is taken, also %s%s", namePrefix, job.ID)
}

// holder returns the ID of the container that has the name if that is the job's
// own: a program that was killed may have asked for it, and the engine made it
// since we looked. A name is taken a moment before its container is there.
func (r *Runner) holder(ctx context.Context, name string, job runner.Job) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	for {
		c, err := r.engine.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
		if err == nil {
			if config := c.Container.Config; config != nil &&
				config.Labels[LabelCommand] == job.ID && config.Labels[LabelOwner] == r.config.Owner {
				return c.Container.ID, nil
			}
			return "", nil
		}
		if !errdefs.IsNotFound(err) {
			return "", err
		}
		if err := base.Wait(ctx, 50*time.Millisecond); err != nil {
			return "", fmt.Errorf("the name %s is taken, and no container has it", name)
		}
	}
}

func (r *Runner) createAs(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, slow*r.config.Timeout)
	defer cancel()
	made, err := r.engine.ContainerCreate(ctx, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: name})
	if err != nil {
		return "", err
	}
	for _, w := range made.Warnings {
		r.log.Warn("the Docker engine warns", "container", name, "warning", w)
	}
	return made.ID, nil
}

// names returns the container names to try for a job's ID, each with more of it.
func names(id string) []string {
	var all []string
	for _, n := range []int{8, 16, 32} {
		if n < len(id) {
			all = append(all, namePrefix+id[:n])
		}
	}
	return append(all, namePrefix+id)
}

// find returns the ID of the job's container, or an empty text. Should there be
// several, it is the known one, or else one that was started.
func (r *Runner) find(ctx context.Context, job runner.Job, known string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true,
		Filters: make(client.Filters).Add("label",
			LabelCommand+"="+job.ID, LabelOwner+"="+r.config.Owner),
	})
	if err != nil {
		return "", r.unreachable(err)
	}
	id := ""
	for _, c := range list.Items {
		if c.ID == known {
			return c.ID, nil
		}
		if id == "" || c.State != container.StateCreated {
			id = c.ID
		}
	}
	if id != "" || known == "" {
		return id, nil
	}
	// It bears another owner's label if the agent was given another name meanwhile.
	_, err = r.inspect(ctx, known)
	switch {
	case errdefs.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", r.unreachable(err)
	}
	return known, nil
}

// describe returns the job's container as kitt needs it: the directories at the
// paths that they have outside, because the engine containers that kitt starts
// mount them by these, and the engine's socket.
func (r *Runner) describe(job runner.Job, image string) (*container.Config, *container.HostConfig) {
	socket := r.socket()
	bind := func(path string, readOnly bool) mount.Mount {
		return mount.Mount{Type: mount.TypeBind, Source: path, Target: path, ReadOnly: readOnly}
	}
	mounts := []mount.Mount{bind(socket, false), bind(job.ResultsDir, false)}
	if filepath.IsAbs(job.Model) {
		mounts = append(mounts, bind(job.Model, true))
	}
	env := append([]string(nil), r.config.Env...)
	if socket != usualSocket {
		env = append(env, "DOCKER_HOST=unix://"+socket)
	}
	// As the first process of a container kitt would ignore SIGTERM.
	init := true
	host := &container.HostConfig{
		Init:        &init,
		NetworkMode: "host",
		Mounts:      mounts,
		LogConfig:   logConfig(),
	}
	if len(job.GPUs) > 0 {
		host.DeviceRequests = []container.DeviceRequest{deviceRequest(job.GPUs)}
	}
	return &container.Config{
		Image:      image,
		Entrypoint: []string{"kitt"},
		Cmd:        arguments(job),
		Env:        env,
		Labels:     map[string]string{LabelCommand: job.ID, LabelOwner: r.config.Owner},
	}, host
}

// deviceRequest asks the engine for GPUs. A Count of -1 means all of them; with
// DeviceIDs it has to be 0.
func deviceRequest(gpus []string) container.DeviceRequest {
	request := container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}
	if slices.Equal(gpus, []string{runner.AllGPUs}) {
		request.Count = -1
	} else {
		request.DeviceIDs = gpus
	}
	return request
}

// logConfig returns how the engine keeps a run's log. Its settings take the
// place of those that the engine may have been given for all containers: common
// ones cut a log at some megabytes, which loses what an agent that was away
// hasn't read, or drop lines rather than let a writer wait.
//
// The driver is json-file, whose entries bear stamps to the nanosecond, by which
// a log is resumed. The limit only guards the disk: 4 GiB of a log are always
// there, and no more than 8.
func logConfig() container.LogConfig {
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"mode": "blocking", "max-size": "4g", "max-file": "2", "compress": "false",
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

// checkPaths refuses paths that would be others in a container than outside, or
// that kitt can't hand on to the engine containers that it starts: it writes
// them as `-v from:to`, with symbolic links resolved inside its own container.
func checkPaths(job runner.Job) error {
	paths := map[string]string{"directory of the results": job.ResultsDir}
	if filepath.IsAbs(job.Model) {
		paths["model"] = job.Model
	}
	for what, path := range paths {
		if strings.Contains(path, ":") {
			return &runner.Error{
				Kind:   runner.ClassPath,
				Text:   fmt.Sprintf("the %s lies at %q, and a path with a ':' can't be handed to a container", what, path),
				Remedy: "use a path without ':'",
			}
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return &runner.Error{
				Kind: runner.ClassPath, Text: fmt.Sprintf("the %s can't be found: %v", what, err), Err: err,
			}
		}
		if real != path {
			return &runner.Error{
				Kind:   runner.ClassPath,
				Text:   fmt.Sprintf("the %s at %q is reached by a symbolic link, or not written in full", what, path),
				Remedy: fmt.Sprintf("use its own path, %s", real),
			}
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
	if strings.Contains(err.Error(), "could not select device driver") {
		return &runner.Error{
			Kind:   runner.ClassGPURuntime,
			Text:   "the Docker engine can't give a container the GPUs, because the NVIDIA Container Toolkit is missing or not set up",
			Remedy: "install nvidia-container-toolkit, then run: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
			Err:    err,
		}
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

// stop stops a container: SIGTERM, then SIGKILL after grace. One that is gone
// or has ended is as good as stopped.
func (r *Runner) stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+r.config.Timeout)
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
