package runner

import (
	"context"
	"errors"
	"slices"
)

// A ContainerRunner is a [Runner] that runs jobs in containers. The agent tells its
// server what a ContainerRunner answers. It finds one with [As].
type ContainerRunner interface {
	// Ready returns nil if a job could run in a container: the engine answers, and
	// whatever else it takes is there.
	Ready(ctx context.Context) error

	// Engines returns the inference engines, such as vllm, whose images are on
	// this machine.
	Engines(ctx context.Context) ([]string, error)
}

var _ ContainerRunner = (*Fallback)(nil)

// Ready returns nil if one member can run jobs in containers. The error
// matches [ErrUnavailable] if no member runs containers.
func (f *Fallback) Ready(ctx context.Context) error {
	var errs []error
	for _, r := range f.members {
		c, ok := As[ContainerRunner](r)
		if !ok {
			continue
		}
		err := c.Ready(ctx)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return &Error{Class: ClassUnavailable, Text: "this agent runs no containers", Err: ErrUnavailable}
	}
	return errors.Join(errs...)
}

// Engines returns the inference engines of all members that run containers, each
// once. The error joins those of members that gave none.
func (f *Fallback) Engines(ctx context.Context) ([]string, error) {
	var (
		all  []string
		errs []error
	)
	for _, r := range f.members {
		c, ok := As[ContainerRunner](r)
		if !ok {
			continue
		}
		engines, err := c.Engines(ctx)
		errs = append(errs, err)
		for _, e := range engines {
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	return all, errors.Join(errs...)
}
