package dockercheck

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/kirizan/kitt-agent/preflight"
)

// Image checks that the image that benchmarks run in exists and is for this
// machine's architecture.
func (c *Checks) Image() preflight.Check {
	return preflight.Func{Label: "kitt image", Do: func(ctx context.Context) preflight.Result {
		e, err := c.engine()
		if err != nil {
			return unreachable()
		}
		arch, err := c.imageArch(ctx, c.cfg.Image)
		switch {
		case errdefs.IsNotFound(err):
			return preflight.Result{Status: preflight.Warn, Details: "the image " + c.cfg.Image + " is missing: jobs need the local kitt command", Fix: "kitt-agent build"}
		case err != nil:
			return preflight.Result{Status: preflight.Warn, Details: c.cfg.Image + " cannot be inspected: " + err.Error()}
		case arch != e.arch:
			return preflight.Result{Status: preflight.Warn, Details: fmt.Sprintf("%s is for %s, and this machine is %s", c.cfg.Image, arch, e.arch), Fix: "kitt-agent build"}
		}
		return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("%s for %s", c.cfg.Image, arch)}
	}}
}

// HasImage reports whether jobs can run in containers: the engine answers and has
// the image for its architecture. Its negation is the parameter of
// [preflight.Python].
func (c *Checks) HasImage(ctx context.Context) bool {
	e, err := c.engine()
	if err != nil {
		return false
	}
	arch, err := c.imageArch(ctx, c.cfg.Image)
	return err == nil && arch == e.arch
}

// imageArch returns the architecture of a local image.
func (c *Checks) imageArch(ctx context.Context, ref string) (string, error) {
	image, err := c.cfg.Client.ImageInspect(ctx, ref)
	if err != nil {
		return "", err
	}
	return image.Architecture, nil
}
