package docker

import (
	"context"
	"errors"
	"path/filepath"
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

// Clean ends the engine containers that the benchmark left running: those with the job's
// label where it had a socket proxy. Where it had the engine's own socket they are those
// that were started since then, were not there before the job, and mount the job's model
// or results.
func (r *Runner) Clean(ctx context.Context, job runner.Job, since time.Time, out runner.Output) error {
	if hadProxy(job) {
		return r.endEngines(ctx, job, out)
	}
	// A job that another runner ran has no record here.
	rec, _, err := readRecord(job)
	siblings, listErr := r.siblings(ctx)
	errs := []error{err, listErr}
	for _, c := range siblings {
		// The engine tells whole seconds.
		if c.Created < since.Unix() || slices.Contains(rec.Siblings, c.ID) || !mountsOf(c, job) {
			continue
		}
		errs = append(errs, r.endEngine(ctx, c, out))
	}
	return errors.Join(errs...)
}

// endEngine ends an engine container, and says so.
func (r *Runner) endEngine(ctx context.Context, c container.Summary, out runner.Output) error {
	if err := errors.Join(r.stop(ctx, c.ID, siblingGrace), r.remove(ctx, c.ID)); err != nil {
		return err
	}
	return say(out, "ended the engine container %s that the benchmark left running", nameOf(c))
}

// mountsOf reports whether a container mounts the job's model, the directory of a model
// that is one file, or the job's results.
func mountsOf(c container.Summary, job runner.Job) bool {
	paths := []string{job.ResultsDir}
	if filepath.IsAbs(job.Model) {
		paths = append(paths, job.Model, filepath.Dir(job.Model))
	}
	return slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool { return slices.Contains(paths, m.Source) })
}

// labelled returns the containers that have all of these labels.
func (r *Runner) labelled(ctx context.Context, labels ...string) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	list, err := r.engine.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", labels...),
	})
	if err != nil {
		return nil, r.unreachable(err)
	}
	return list.Items, nil
}

// Sweep ends and removes the containers of this owner that are older than
// grace and belong to no claimed job: benchmarks, and what they started through their
// socket proxies.
func (r *Runner) Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error) {
	var (
		ids  []string
		errs []error
	)
	for _, label := range []string{LabelCommand, LabelEngine} {
		list, err := r.labelled(ctx, label, LabelOwner+"="+r.config.Owner)
		if err != nil {
			return ids, err
		}
		for _, c := range list {
			id := c.Labels[label]
			if claimed(id) || time.Since(time.Unix(c.Created, 0)) < grace {
				continue
			}
			if err := errors.Join(r.stop(ctx, c.ID, runner.DefaultStopGrace), r.remove(ctx, c.ID)); err != nil {
				errs = append(errs, err)
				continue
			}
			r.log.Info("ended a container that belongs to no job", "container", nameOf(c), "command", id)
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids, errors.Join(errs...)
}

func nameOf(c container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}
