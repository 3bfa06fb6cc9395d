package docker

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/runner"
)

// siblingName is how kitt names an engine container: by the second it was
// started in. It gives it no label.
var siblingName = regexp.MustCompile(`^/?kitt-\d{9,}$`)

// siblingGrace is what an engine container gets to end by itself; kitt gives it
// as much.
const siblingGrace = 10 * time.Second

// siblings returns the engine containers of this machine.
func (r *Runner) siblings(ctx context.Context) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("name", "kitt-"),
	})
	if err != nil {
		return nil, r.unreachable(err)
	}
	return slices.DeleteFunc(list.Items, func(c container.Summary) bool {
		return !slices.ContainsFunc(c.Names, siblingName.MatchString)
	}), nil
}

// Clean ends the engine containers that were started since then and were not
// there before the job.
func (r *Runner) Clean(ctx context.Context, job runner.Job, since time.Time, out runner.Output) error {
	siblings, err := r.siblings(ctx)
	if err != nil {
		return err
	}
	// A job that another runner ran has no record here.
	rec, _, err := readRecord(job)
	errs := []error{err}
	for _, c := range siblings {
		// The engine tells whole seconds.
		if c.Created < since.Unix() || slices.Contains(rec.Siblings, c.ID) {
			continue
		}
		if err := errors.Join(r.stop(ctx, c.ID, siblingGrace), r.remove(ctx, c.ID)); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, say(out, "ended the engine container %s that the benchmark left running", nameOf(c)))
	}
	return errors.Join(errs...)
}

// Sweep ends and removes the containers of this owner that are older than
// grace and belong to no claimed job.
func (r *Runner) Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error) {
	listCtx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	list, err := r.engine.ContainerList(listCtx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", LabelCommand, LabelOwner+"="+r.config.Owner),
	})
	if err != nil {
		return nil, r.unreachable(err)
	}
	var (
		ids  []string
		errs []error
	)
	for _, c := range list.Items {
		id := c.Labels[LabelCommand]
		if claimed(id) || time.Since(time.Unix(c.Created, 0)) < grace {
			continue
		}
		if err := errors.Join(r.stop(ctx, c.ID, runner.DefaultStopGrace), r.remove(ctx, c.ID)); err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.Info("ended a container that belongs to no job", "container", nameOf(c), "command", id)
		ids = append(ids, id)
	}
	return ids, errors.Join(errs...)
}

func nameOf(c container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}
