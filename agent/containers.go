package agent

import (
	"context"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

// containersTimeout bounds a call to a [runner.ContainerRunner].
const containersTimeout = 10 * time.Second

// containersReady reports whether the Runner can run jobs in containers.
func (a *Agent) containersReady(ctx context.Context) bool {
	c, ok := runner.As[runner.ContainerRunner](a.cfg.Runner)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, containersTimeout)
	defer cancel()
	return c.Ready(ctx) == nil
}

// imageEngines returns the inference engines that the Runner has images of, none if
// it can run no containers.
func (a *Agent) imageEngines(ctx context.Context) []string {
	c, ok := runner.As[runner.ContainerRunner](a.cfg.Runner)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, containersTimeout)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		if !errors.Is(err, context.Canceled) { // the agent stops
			a.cfg.Logger.WarnContext(ctx, "benchmarks can't run in containers", "err", err)
		}
		return nil
	}
	engines, err := c.Engines(ctx)
	if err != nil {
		a.cfg.Logger.DebugContext(ctx, "images not listed", "err", err)
	}
	return engines
}
