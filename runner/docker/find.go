package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// appearPause is the time between looks at a container that the engine is still
// creating.
const appearPause = 50 * time.Millisecond

// find returns the ID of the job's container, or an empty text. Should there be
// several, it is the known one, or else one that was started.
//
// The engine lists a container up to 100 ms before it can inspect, start or
// remove it. find waits until it can, or until the engine no longer lists it
// because its creation failed.
func (r *Runner) find(ctx context.Context, job runner.Job, known string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	for {
		id, err := r.listed(ctx, job, known)
		if err != nil {
			return "", r.unreachable(err)
		}
		if id == "" && known == "" {
			return "", nil
		}
		listed := id != ""
		if !listed {
			// It bears another owner's label if the agent was given another name
			// meanwhile.
			id = known
		}
		_, err = r.inspect(ctx, id)
		switch {
		case err == nil:
			return id, nil
		case !errdefs.IsNotFound(err):
			return "", r.unreachable(err)
		case !listed:
			return "", nil
		}
		if base.Wait(ctx, appearPause) != nil {
			return "", fmt.Errorf("the Docker engine lists the container %s and can't inspect it", id)
		}
	}
}

// listed returns the ID of the job's container by the engine's list, or an empty
// text.
func (r *Runner) listed(ctx context.Context, job runner.Job, known string) (string, error) {
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true,
		Filters: make(client.Filters).Add("label",
			LabelCommand+"="+job.ID, LabelOwner+"="+r.config.Owner),
	})
	if err != nil {
		return "", err
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
	return id, nil
}
