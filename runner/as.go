package runner

import (
	"context"
	"errors"

	"github.com/kirizan/kitt-agent/internal/base"
)

// As returns the first runner that is a T: r itself, or one that it wraps. A
// runner that wraps another one has a method Unwrap() Runner that returns it,
// as errors do for [errors.As]. T is an interface such as [Resumer].
//
// A method that is found below a wrapper runs without it. A wrapper that must
// see every run implements [Resumer] itself, and passes the call on. One
// without Unwrap hides what the inner runner can do: its runs then end with
// the agent, and nothing cleans up after them.
func As[T any](r Runner) (T, bool) { return base.As[T](r) }

// WithoutDetach returns a context for a runner that is no [Resumer], as a
// caller that is one itself calls it. Where ctx ends with the cause
// [ErrDetach], the returned context ends with another, so that the inner runner
// stops its benchmark: left running, it could never be resumed. Every other
// cause passes unchanged. The caller calls cancel when the run has ended.
func WithoutDetach(ctx context.Context) (inner context.Context, cancel func()) {
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if errors.Is(cause, ErrDetach) {
			cause = ErrCannotResume
		}
		stop(cause)
	})
	return inner, func() {
		unhook()
		stop(nil)
	}
}
