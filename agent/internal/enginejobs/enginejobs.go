// Package enginejobs carries out the commands that install, start and stop the native
// engines of the machine, and looks after the engines that run: each holds a lease on its
// model for as long as it runs, also when no agent does.
//
//	enginejobs.go  the commands, as package execution hands them over
//	watch.go       leases of the engines that run
//	conflict.go    benchmarks that need the GPUs that an engine holds
package enginejobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/storage"
)

// Config says what Jobs works with. All fields are required.
type Config struct {
	Manager engine.Manager
	Storage storage.Storage
	Policy  policy.Policy

	// Dir is the agent's directory. Leases of engines are held in its name.
	Dir string

	// Live reports whether the job with an ID has not ended.
	Live func(id string) bool

	// Conflict says what becomes of a benchmark that needs GPUs which an engine holds, and
	// Submit makes a job that starts an engine again; of the same command only once.
	Conflict Conflict
	Submit   func(jobs.Command) error

	// Changed is called after an engine was started, stopped or installed, or has ended.
	Changed func(ctx context.Context)

	Notices *notices.Board
	Logger  *slog.Logger
}

// Jobs carries out engine commands. Its methods are safe for concurrent use.
type Jobs struct {
	cfg     Config
	log     *slog.Logger
	started chan watched // engines that Run is to watch
}

// New returns one. Call Run, too.
func New(cfg Config) *Jobs {
	return &Jobs{cfg: cfg, log: cfg.Logger, started: make(chan watched, 1)}
}

// Acquire gets a lease on a model for a holder, as storage.Storage does.
type Acquire func(ctx context.Context, model, holder string) (*storage.Lease, error)

// Check returns why the policy or the engine's own rules forbid a command. Commands that
// concern no engine are allowed.
func (e *Jobs) Check(c jobs.Command) error {
	name := c.Spec.Engine
	switch c.Type {
	case jobs.TypeInstallEngine:
		return e.cfg.Policy.CheckInstall(name)
	case jobs.TypeStartEngine:
		if err := e.cfg.Policy.CheckEngine(name); err != nil {
			return err
		}
		spec, _ := engine.Lookup(name)
		_, err := spec.Parse(c.Spec.RuntimeConfig)
		return err
	case jobs.TypeStopEngine:
		return e.cfg.Policy.CheckEngine(name)
	}
	return nil
}

// Do carries out the command of a job, which may be one that an agent before this one
// began. What the engine prints from byte from on goes to out. If ctx ends with
// [runner.ErrDetach] the next agent calls Do again.
func (e *Jobs) Do(ctx context.Context, j *jobs.Job, acquire Acquire, from runner.Position, out runner.Output) error {
	c := j.Command
	if err := e.Check(c); err != nil {
		return err
	}
	defer e.cfg.Changed(context.WithoutCancel(ctx))
	switch c.Type {
	case jobs.TypeInstallEngine:
		return e.cfg.Manager.Install(ctx, c.Spec.Engine, out)
	case jobs.TypeStopEngine:
		return e.stop(ctx, c.Spec.Engine, out)
	case jobs.TypeStartEngine:
		return e.start(ctx, j, acquire, from, out)
	}
	return fmt.Errorf("%s is not an engine command", c.Type)
}

// stop stops an engine. One that does not run is as good as stopped, so that a stop can be
// repeated; one that the agent did not start is not.
func (e *Jobs) stop(ctx context.Context, name string, out runner.Output) error {
	err := e.cfg.Manager.Stop(ctx, name, out)
	if _, others := errors.AsType[*fault.Error](err); errors.Is(err, engine.ErrNotRunning) && !others {
		return out.WriteMessage(name + " is not running")
	}
	return err
}

// start brings the model and starts an engine, which holds the lease from then on.
func (e *Jobs) start(ctx context.Context, j *jobs.Job, acquire Acquire, from runner.Position, out runner.Output) error {
	spec, _ := engine.Lookup(j.Command.Spec.Engine) // Check knows it
	launch := engine.Launch{ID: j.ID, Engine: spec.Name, Model: j.Command.Spec.Model, Requested: j.Command.Spec.Model, Config: j.Command.Spec.RuntimeConfig}
	if err := e.running(ctx, j.ID); err != nil {
		return err // before a model is copied in vain
	}
	lease, err := e.lease(ctx, spec, j, acquire)
	if err != nil {
		return err
	}
	if lease != nil {
		if launch.Model, err = spec.ModelPath(lease.Path); err != nil {
			return errors.Join(err, lease.Release())
		}
	}
	err = e.cfg.Manager.Start(ctx, launch, from, out)
	if err == nil {
		e.cfg.Notices.Withdraw(endedNotice(spec.Name))
		return e.watch(ctx, watched{launch, lease})
	}
	if lease != nil && !errors.Is(err, runner.ErrDetach) && !errors.Is(err, runner.ErrStillRunning) {
		err = errors.Join(err, lease.Release())
	}
	return err
}

// running returns an error if an engine runs that another job started.
func (e *Jobs) running(ctx context.Context, id string) error {
	all, err := e.cfg.Manager.Detect(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Launch != nil && s.Launch.ID != id {
			err := fault.New(engine.ClassBusy, "kitt-agent engines stop "+s.Name, "%s runs already, on port %d", s.Name, s.Port)
			err.Err = engine.ErrRunning
			return err
		}
	}
	return nil
}

// lease brings the model of a start, nil if there is none or the engine has its own.
func (e *Jobs) lease(ctx context.Context, spec engine.Spec, j *jobs.Job, acquire Acquire) (*storage.Lease, error) {
	model := j.Command.Spec.Model
	if model == "" || spec.ModelFlag == "" {
		return nil, nil
	}
	lease, err := acquire(ctx, model, e.holder(spec.Name, j.ID))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", model, err)
	}
	return lease, nil
}

// holder names an engine to the storage, apart from the jobs.
func (e *Jobs) holder(name, id string) string { return filepath.Join(e.holders(), name, id) }

func (e *Jobs) holders() string { return filepath.Join(e.cfg.Dir, "engines") }

// Leads returns the first line of a job's log.
func Leads(c jobs.Command) string {
	line := map[string]string{
		jobs.TypeInstallEngine: "Agent installing engine: ",
		jobs.TypeStartEngine:   "Agent starting engine: ",
		jobs.TypeStopEngine:    "Agent stopping engine: ",
	}[c.Type] + c.Spec.Engine
	if c.Spec.Model != "" {
		line += "\nModel: " + c.Spec.Model
	}
	if text := strings.TrimSpace(string(c.Spec.RuntimeConfig)); text != "" && text != "null" {
		line += "\nruntime_config: " + text
	}
	return line
}
