// Package engine knows the inference engines that are installed on a machine itself, in
// addition to those that come in containers: how each is found, started and asked
// whether it works.
//
// A [Spec] is all that there is to know about one kind of engine; [Specs] lists them. A
// [Finder] looks at the machine. It starts no process except to ask a program for its
// version. [Spec.Parse] turns the runtime_config of a command into arguments, and
// refuses what it doesn't know. A [Manager] also installs, starts and stops engines;
// package runner/engine/native has one that runs them as processes which outlive the
// program, package runner/engine/enginetest a fake and the contract as code.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
)

// A Manager manages the native engines of one machine. Its methods are safe for
// concurrent use. Errors are [fault.Classified] where there is something to do about
// them.
type Manager interface {
	// Detect returns the state of every kind of engine that the machine has, had or
	// could have. It returns within seconds, and starts nothing that stays.
	Detect(ctx context.Context) ([]Status, error)

	// Install installs an engine, and returns once it can be started. What it does is
	// said on out. Nothing half installed is left behind, whatever the error. It may be
	// called again for the same version.
	Install(ctx context.Context, name string, out runner.Output) error

	// Start starts an engine, and returns once it is healthy. Its output until then,
	// from byte from on, goes to out. After an error nothing of it runs, unless the
	// cause of ctx is [runner.ErrDetach]: a later call with the same Launch.ID then goes
	// on where this one left off. Only one engine runs at a time: the error matches
	// [ErrRunning] if one does that another Launch started.
	Start(ctx context.Context, l Launch, from runner.Position, out runner.Output) error

	// Stop ends an engine that Start started, also one that is just starting and one
	// that an earlier program started, with all that it started itself. It returns once
	// all of it is gone. The error matches [ErrNotRunning] if there is nothing to stop.
	Stop(ctx context.Context, name string, out runner.Output) error

	// Watch returns once no engine of this name runs that Start started: nil if it was
	// stopped or none ran, and otherwise how it ended. It returns the cause of ctx when
	// that is done.
	Watch(ctx context.Context, name string) error
}

var (
	// ErrRunning is matched by the error of a Start while an engine runs.
	ErrRunning = errors.New("an engine runs already")

	// ErrNotRunning is matched by the error of a Stop that found nothing to stop.
	ErrNotRunning = errors.New("the engine is not running")
)

// Classes of errors, for machines.
const (
	ClassMissing = "engine-missing" // it is not installed
	ClassConfig  = "engine-config"  // runtime_config makes no sense for it
	ClassBusy    = "engine-busy"    // a port or the GPUs are taken
	ClassHealth  = "engine-health"  // it did not become healthy
	ClassInstall = "engine-install" // it can't be installed
)

// A Launch says what to start.
type Launch struct {
	ID     string          // of the job that starts it, as in runner.Job
	Engine string          // its name, as in Spec
	Model  string          // a local path or what the engine calls it; may be empty
	Config json.RawMessage // runtime_config, see Spec.Parse

	// Requested is what the model is called in the command, where Model is its local
	// copy. A Manager only keeps it.
	Requested string
}

// A Status is what is known of one kind of engine on this machine.
type Status struct {
	Name      string
	Installed bool
	Path      string // how it is called, for a person; empty if it is not installed
	Version   string // as it says itself; empty if that isn't known
	Running   bool
	PID       int // of the process that serves it; 0 if none does, or it isn't known
	Port      int // where it listens, or would by default; 0 if it has no port

	// Launch is what a Manager started, nil for an engine that somebody else runs.
	Launch *Launch
	Since  time.Time // when it was started, with a Launch
	Ready  bool      // whether it has become healthy, with a Launch
}

// ErrUnknown returns the error for a name that is not one of [Specs].
func ErrUnknown(name string) error {
	return fault.New(ClassMissing, "choose one of "+names(), "there is no engine %.64q that an agent can start", name)
}
