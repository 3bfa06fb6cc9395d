package engine

import (
	"context"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner"
)

// ReadOnly is a Manager that reports what its Finder finds and changes nothing. Without
// a Finder there are no engines.
type ReadOnly struct{ Finder *Finder }

var _ Manager = ReadOnly{}

// Detect returns what the Finder finds.
func (r ReadOnly) Detect(ctx context.Context) ([]Status, error) {
	if r.Finder == nil {
		return nil, nil
	}
	return r.Finder.Detect(ctx)
}

var errReadOnly = fault.New(ClassConfig, "", "this agent does not install, start or stop engines")

// Install refuses.
func (ReadOnly) Install(context.Context, string, runner.Output) error { return errReadOnly }

// Start refuses.
func (ReadOnly) Start(context.Context, Launch, runner.Position, runner.Output) error {
	return errReadOnly
}

// Stop refuses.
func (ReadOnly) Stop(context.Context, string, runner.Output) error { return errReadOnly }

// Watch returns at once: nothing runs that this Manager started.
func (ReadOnly) Watch(context.Context, string) error { return nil }
