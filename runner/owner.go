package runner

import (
	"context"
	"errors"
	"slices"
)

// An Owner is a [Runner] that can tell the processes of its runs from those of others on
// the machine.
type Owner interface {
	// Owns returns those of the processes with these ids that belong to the jobs'
	// runs, or to what these runs started, such as engines. A process that has ended,
	// or that this program may not look at, is nobody's.
	Owns(ctx context.Context, jobs []Job, pids []int) ([]int, error)
}

var _ Owner = (*Fallback)(nil)

// Owns returns the processes that belong to runs of any member. A member that is no
// Owner has none.
func (f *Fallback) Owns(ctx context.Context, jobs []Job, pids []int) ([]int, error) {
	var (
		own  []int
		errs []error
	)
	for _, r := range slices.Concat(f.members, f.former) {
		if o, ok := As[Owner](r); ok {
			found, err := o.Owns(ctx, jobs, pids)
			own, errs = append(own, found...), append(errs, err)
		}
	}
	slices.Sort(own)
	return slices.Compact(own), errors.Join(errs...)
}
