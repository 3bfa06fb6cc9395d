// Package fault has the error type of this module's runners and storages: one
// sentence for people, a class for machines and what to do next.
//
// An [Error] is what most of them return; packages runner and storage call it their
// own and list its classes. Other error types take part by their method Fault. The
// agent reports class and fix of the errors of a [Classified] type, whoever made
// them.
package fault

import (
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/internal/base"
)

// An Error is a failure with a class and, where there is one, a fix.
type Error struct {
	Class string // what kind of failure it is, for machines: a constant of the package that returned it
	Text  string // one sentence, without the fix
	Fix   string // what to do next: a command or a sentence; may be empty
	Err   error  // the cause; may be nil
}

// Error returns the sentence, followed by the fix if there is one, on one line that
// is safe to print: see [base.Escape].
func (e *Error) Error() string {
	if e.Fix == "" {
		return base.Escape(e.Text)
	}
	return base.Escape(e.Text + " (" + e.Fix + ")")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fault implements [Classified].
func (e *Error) Fault() (class, fix string) { return e.Class, e.Fix }

// New returns an Error whose text is formatted as by [fmt.Errorf]. What %w formats
// becomes the cause.
func New(class, fix, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: class, Text: err.Error(), Fix: fix, Err: errors.Unwrap(err)}
}

// A Classified is an error that has a class.
type Classified interface {
	error

	// Fault returns the failure's class, for machines, and what to do next, which
	// may be empty.
	Fault() (class, fix string)
}

// Of returns the class and the fix of the first [Classified] in err's tree, and
// empty texts if there is none.
func Of(err error) (class, fix string) {
	if c, ok := errors.AsType[Classified](err); ok {
		return c.Fault()
	}
	return "", ""
}
