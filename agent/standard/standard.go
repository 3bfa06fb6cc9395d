// Package standard has the usual parts of an agent: benchmarks run in Docker
// containers, through the local kitt command or on a Slurm cluster, models come from a share to local
// disk, and the machine describes itself, its GPUs through NVML if the program is
// built with the tag nvml.
//
//	parts, err := standard.New(standard.Config{Name: "gpu-1"})
//	...
//	defer parts.Close()
//	a, err := agent.New(agent.Config{Name: "gpu-1", Runner: parts.Runner, Storage: parts.Storage, Detector: parts.Detector, ...})
//
// Package agent itself imports none of these parts. A program that brings its own
// imports their packages one by one, and links no others.
package standard

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/native"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/storage"
)

// Config says what the parts are like. Its zero value works.
type Config struct {
	// Name is the agent's, as in agent.Config. It tells this agent's containers
	// and leases from those of other agents, so it may be empty only where there is
	// one agent.
	Name string

	// Kind says how benchmarks run. Defaults to Auto.
	Kind Kind

	// Env is added to the environment of every benchmark, as NAME=value.
	Env []string

	// Docker configures containers. Owner, Env and Logger default to Name, Env and
	// Logger.
	Docker docker.Config

	// Process configures benchmarks through the local kitt command. Env defaults to
	// what [process.Environment] passes on of this program's, and Env. A benchmark
	// outlives this program only if Supervisor is set.
	Process process.Config

	// Slurm configures jobs on a cluster, for that Kind. Owner, Env and Logger default to
	// Name, Env and Logger.
	Slurm slurm.Config

	// Storage configures the copies of models. Owner and Logger default to Name and
	// Logger.
	Storage storage.Config

	// Detector configures what looks at the machine. NVML is asked in addition to
	// Sources. ModelDir and Logger default to the Storage's directory and Logger.
	Detector hwdetect.Config

	// Engines configures the engines of the machine itself. Dir is required to start
	// any; without one they are only found. Finder defaults to the usual places, Env,
	// Supervisor and Start to those of Process, and Logger to Logger.
	Engines native.Config

	// Logger receives what an operator wants to know. Defaults to discarding it.
	Logger *slog.Logger
}

// Parts are the parts of one agent.
type Parts struct {
	Runner   *Runner
	Storage  *storage.Local
	Detector *Detector
	Engines  engine.Manager

	started *native.Manager // nil if engines are only found
}

// New returns the parts that cfg describes. It starts nothing and calls no
// container engine. Engines that run in Engines.Dir are followed until Close.
func New(cfg Config) (*Parts, error) {
	cfg = cfg.withDefaults()
	run, err := NewRunner(cfg)
	if err != nil {
		return nil, err
	}
	models, err := storage.New(cfg.Storage)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("standard: %w", err), run.Close())
	}
	if cfg.Detector.ModelDir == "" {
		cfg.Detector.ModelDir = models.Dir()
	}
	machine, err := NewDetector(cfg.Detector)
	if err != nil {
		return nil, errors.Join(err, models.Close(), run.Close())
	}
	parts := &Parts{Runner: run, Storage: models, Detector: machine, Engines: engine.ReadOnly{Finder: cfg.Engines.Finder}}
	if cfg.Engines.Dir != "" {
		if parts.started, err = native.Open(cfg.Engines); err != nil {
			return nil, errors.Join(fmt.Errorf("standard: %w", err), parts.Close())
		}
		parts.Engines = parts.started
	}
	return parts, nil
}

// Close closes the parts, once Run of their agent has returned. It may be called
// twice.
func (p *Parts) Close() error {
	var engines error
	if p.started != nil {
		engines = p.started.Close()
	}
	return errors.Join(engines, p.Runner.Close(), p.Detector.Close(), p.Storage.Close())
}

// withDefaults returns cfg with defaults in place of zero values.
func (cfg Config) withDefaults() Config {
	if cfg.Kind == "" {
		cfg.Kind = Auto
	}
	orName := func(owner *string) {
		if *owner == "" {
			*owner = cfg.Name
		}
	}
	orName(&cfg.Docker.Owner)
	orName(&cfg.Slurm.Owner)
	orName(&cfg.Storage.Owner)
	for _, logger := range []**slog.Logger{&cfg.Docker.Logger, &cfg.Slurm.Logger, &cfg.Storage.Logger, &cfg.Detector.Logger, &cfg.Engines.Logger} {
		if *logger == nil {
			*logger = cfg.Logger
		}
	}
	if cfg.Docker.Env == nil {
		cfg.Docker.Env = cfg.Env
	}
	if cfg.Slurm.Env == nil {
		cfg.Slurm.Env = cfg.Env
	}
	if cfg.Process.Env == nil {
		own, _ := process.Environment(os.Environ())
		cfg.Process.Env = append(own, cfg.Env...)
	}
	if cfg.Engines.Finder == nil {
		cfg.Engines.Finder = engine.NewFinder(engine.FinderConfig{Dir: cfg.Engines.Dir})
	}
	if cfg.Engines.Env == nil {
		cfg.Engines.Env = cfg.Process.Env
	}
	if cfg.Engines.Supervisor == nil {
		cfg.Engines.Supervisor = cfg.Process.Supervisor
	}
	if cfg.Engines.Start == nil {
		cfg.Engines.Start = cfg.Process.Start
	}
	return cfg
}
