package standard

import (
	"fmt"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

// A Kind says how benchmarks run.
type Kind string

// The kinds.
const (
	Auto    Kind = "auto"    // in a container, and through the local kitt where there is no image, or no Docker at all
	Docker  Kind = "docker"  // in a container
	Process Kind = "process" // through the local kitt
	Slurm   Kind = "slurm"   // on a cluster
)

// A Runner runs benchmarks in containers, through the local kitt command or on a cluster. A job
// whose run one of them began never goes to the other, also if the Kind has changed
// since.
type Runner struct {
	*runner.Fallback
	containers *docker.Runner // nil without Docker
	cluster    *slurm.Runner  // nil unless the Kind is Slurm
}

// NewRunner returns the runner that cfg describes, whose Storage and Detector are not
// used. It calls no container engine.
func NewRunner(cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	switch cfg.Kind {
	case Auto, Docker, Process:
	case Slurm:
		return newCluster(cfg)
	default:
		return nil, fmt.Errorf("standard: Kind is %q, not auto, docker, process or slurm", cfg.Kind)
	}
	local := process.New(cfg.Process)
	containers, err := docker.New(cfg.Docker)
	switch {
	case err != nil && cfg.Kind == Process:
		return &Runner{Fallback: runner.NewFallback(local)}, nil // the machine needs no Docker
	case err != nil:
		return nil, fmt.Errorf("standard: %w", err)
	case cfg.Kind == Process:
		return &Runner{Fallback: runner.NewFallback(local).Former(containers), containers: containers}, nil
	case cfg.Kind == Docker:
		return &Runner{Fallback: runner.NewFallback(containers).Former(local), containers: containers}, nil
	}
	return &Runner{Fallback: runner.NewFallback(containers, local), containers: containers}, nil
}

// newCluster returns the runner of a cluster. It goes on with what was begun on this
// machine.
func newCluster(cfg Config) (*Runner, error) {
	cluster, err := slurm.New(cfg.Slurm)
	if err != nil {
		return nil, fmt.Errorf("standard: %w", err)
	}
	r := &Runner{Fallback: runner.NewFallback(cluster), cluster: cluster}
	r.Former(process.New(cfg.Process))
	if r.containers, err = docker.New(cfg.Docker); err != nil {
		r.containers = nil // the machine needs no Docker
		return r, nil
	}
	r.Former(r.containers)
	return r, nil
}

// Cluster returns the runner of the cluster, and nil if the Kind is not Slurm.
func (r *Runner) Cluster() *slurm.Runner { return r.cluster }

// Close closes the connections to the container engine. Benchmarks keep running.
func (r *Runner) Close() error {
	if r.containers == nil {
		return nil
	}
	return r.containers.Close()
}
