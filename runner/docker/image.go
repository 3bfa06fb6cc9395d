package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kirizan/kitt-agent/runner"
)

// chooseImage returns the image to run job in: the one it wants, else
// the default one. An image is never fetched, and one for another architecture
// is passed over. What was chosen, and why, is said on out.
func (r *Runner) chooseImage(ctx context.Context, job runner.Job, out runner.Output) (runner.Image, error) {
	arch, err := r.architecture(ctx)
	if err != nil {
		return runner.Image{}, err
	}
	names := []string{r.config.DefaultImage}
	if job.Image != "" && job.Image != r.config.DefaultImage {
		names = []string{job.Image, r.config.DefaultImage}
	}
	var reasons []string
	for i, name := range names {
		image, reason, err := r.checkImage(ctx, name, arch)
		if err != nil {
			return runner.Image{}, err
		}
		if reason == "" {
			return image, say(out, "running in a container of the image %s", name)
		}
		reasons = append(reasons, reason)
		// The last reason is part of the error.
		if i+1 < len(names) {
			if err := say(out, "%s; trying %s", reason, names[i+1]); err != nil {
				return runner.Image{}, err
			}
		}
	}
	return runner.Image{}, &runner.Error{
		Class: runner.ClassUnavailable,
		Text:  strings.Join(reasons, "; "),
		Fix:   "kitt-agent build",
		Err:   runner.ErrUnavailable,
	}
}

// checkImage returns the image, or the reason not to use it.
func (r *Runner) checkImage(ctx context.Context, name, arch string) (found runner.Image, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	image, err := r.engine.ImageInspect(ctx, name)
	switch {
	case errdefs.IsNotFound(err):
		return found, fmt.Sprintf("there is no image %s on this machine", name), nil
	case errdefs.IsInvalidArgument(err):
		return found, fmt.Sprintf("%q is no name of an image", name), nil
	case err != nil:
		return found, "", r.unreachable(err)
	case image.Architecture != arch:
		return found, fmt.Sprintf("the image %s is made for %s and this machine is %s", name, image.Architecture, arch), nil
	}
	found = runner.Image{Name: name, ID: image.ID}
	if len(image.RepoDigests) > 0 {
		found.Digest = image.RepoDigests[0]
	}
	return found, "", nil
}

func say(out runner.Output, format string, args ...any) error {
	if err := out.WriteMessage(fmt.Sprintf(format, args...)); err != nil {
		return fmt.Errorf("write to the job's log: %w", err)
	}
	return nil
}
