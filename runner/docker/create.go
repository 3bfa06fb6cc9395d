package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// namePrefix begins the name of each container of this package.
const namePrefix = "kitt-run-"

// create creates the job's container, or returns the one that was created
// before a crash. That may be one of an older agent, which has no supervisor.
func (r *Runner) create(ctx context.Context, job runner.Job, image string, p program.Program) (id string, supervised bool, err error) {
	id, err = r.find(ctx, job, "")
	if err != nil {
		return "", true, err
	}
	made := false
	if id == "" {
		if id, made, err = r.createNew(ctx, job, image, p); err != nil {
			return "", true, fmt.Errorf("create the container: %w", err)
		}
	}
	if made {
		return id, true, nil
	}
	supervised, err = r.supervised(ctx, id)
	return id, supervised, err
}

// supervised reports whether a container has a supervisor.
func (r *Runner) supervised(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	c, err := r.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return true, fmt.Errorf("look at the container: %w", err)
	}
	return c.Container.Config != nil && c.Container.Config.Labels[LabelSupervised] != "", nil
}

// createNew creates the container under the first name that is free, and says
// whether it did: the job's own may appear meanwhile.
func (r *Runner) createNew(ctx context.Context, job runner.Job, image string, p program.Program) (id string, made bool, err error) {
	config, host, err := r.describe(ctx, job, image, p)
	if err != nil {
		return "", false, err
	}
	for _, name := range names(job.ID) {
		id, made, err := r.createNamed(ctx, name, job, config, host)
		if err != nil || id != "" {
			return id, made, err
		}
	}
	return "", false, fmt.Errorf("every name for it is taken, also %s%s", namePrefix, job.ID)
}

// createNamed creates a container with the name. It returns an empty ID if
// another job's container has that name already, and the ID of that container if
// it is this job's: the engine made it for a program that was killed.
func (r *Runner) createNamed(ctx context.Context, name string, job runner.Job, config *container.Config, host *container.HostConfig) (id string, made bool, err error) {
	deadline := time.Now().Add(r.config.Timeout)
	for {
		id, err := r.createAs(ctx, name, config, host)
		if !errdefs.IsConflict(err) {
			return id, true, err
		}
		id, err = r.holder(ctx, name, job)
		if !errdefs.IsNotFound(err) {
			return id, false, err
		}
		// The engine reserves a name up to 100 ms before it can inspect the
		// container, and frees the name if that creation fails.
		if time.Now().After(deadline) {
			return "", false, fmt.Errorf("the name %s is taken, and no container has it", name)
		}
		if err := base.Wait(ctx, appearPause); err != nil {
			return "", false, err
		}
	}
}

// holder returns the ID of the container that has the name, or an empty text if
// it is another job's.
func (r *Runner) holder(ctx context.Context, name string, job runner.Job) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	c, err := r.engine.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return "", err
	}
	if config := c.Container.Config; config != nil &&
		config.Labels[LabelCommand] == job.ID && config.Labels[LabelOwner] == r.config.Owner {
		return c.Container.ID, nil
	}
	return "", nil
}

// createAs asks the engine for a container. The engine makes it even if the
// caller stops waiting, so a run that is stopped waits for the ID, to remove the
// container. A run that is only detached from doesn't wait: Resume finds the container.
func (r *Runner) createAs(ctx context.Context, name string, config *container.Config, host *container.HostConfig) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	answer, cancel := context.WithTimeout(context.WithoutCancel(ctx), slow*r.config.Timeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), runner.ErrDetach) {
			cancel()
		}
	})()
	made, err := r.engine.ContainerCreate(answer, client.ContainerCreateOptions{Config: config, HostConfig: host, Name: name})
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
