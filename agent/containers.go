package agent

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

// containersTimeout bounds a call to a [runner.ContainerRunner].
const containersTimeout = 10 * time.Second

// containerEngineAnswers reports whether the Runner has a container engine that
// answers.
func (a *Agent) containerEngineAnswers(ctx context.Context) bool {
	c, ok := runner.As[runner.ContainerRunner](a.cfg.Runner)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, containersTimeout)
	defer cancel()
	return c.Ping(ctx) == nil
}

// imageEngines returns the inference engines that the Runner has images of.
func (a *Agent) imageEngines(ctx context.Context) []string {
	c, ok := runner.As[runner.ContainerRunner](a.cfg.Runner)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, containersTimeout)
	defer cancel()
	engines, err := c.Engines(ctx)
	if err != nil {
		a.log.DebugContext(ctx, "images not listed", "err", err)
	}
	return engines
}
