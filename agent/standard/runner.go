package standard

import (
	"fmt"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/process"
)

// A Kind says how benchmarks run.
type Kind string

// The kinds.
const (
	Auto    Kind = "auto"    // in a container, and through the local kitt where there is no image, or no Docker at all
	Docker  Kind = "docker"  // in a container
	Process Kind = "process" // through the local kitt
)

// A Runner runs benchmarks in containers or through the local kitt command. A job
// whose run one of them began never goes to the other, also if the Kind has changed
// since.
type Runner struct {
	*runner.Fallback
	containers *docker.Runner // nil without Docker
}

// NewRunner returns the runner that cfg describes, whose Storage and Detector are not
// used. It calls no container engine.
func NewRunner(cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	if cfg.Kind != Auto && cfg.Kind != Docker && cfg.Kind != Process {
		return nil, fmt.Errorf("standard: Kind is %q, not auto, docker or process", cfg.Kind)
	}
	local := process.New(cfg.Process)
	containers, err := docker.New(cfg.Docker)
	switch {
	case err != nil && cfg.Kind == Process:
		return &Runner{Fallback: runner.NewFallback(local)}, nil // the machine needs no Docker
	case err != nil:
		return nil, fmt.Errorf("standard: %w", err)
	case cfg.Kind == Process:
		return &Runner{runner.NewFallback(local).Former(containers), containers}, nil
	case cfg.Kind == Docker:
		return &Runner{runner.NewFallback(containers).Former(local), containers}, nil
	}
	return &Runner{runner.NewFallback(containers, local), containers}, nil
}

// Close closes the connections to the container engine. Benchmarks keep running.
func (r *Runner) Close() error {
	if r.containers == nil {
		return nil
	}
	return r.containers.Close()
}
