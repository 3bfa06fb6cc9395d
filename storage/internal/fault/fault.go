// Package fault describes why a file operation on a model failed: a class for
// machines, one sentence for people, and what to do next. Package storage
// returns these failures as its own Error.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/kirizan/kitt-agent/storage/internal/printable"
)

// Classes of failure. Package storage has constants with the same values.
const (
	Invalid    = "model-invalid"
	Stale      = "share-stale"
	Permission = "permission"
	Escape     = "path-escape"
	Loop       = "directory-loop"
	Space      = "disk-full"
	Changed    = "source-changed"
	Damaged    = "verification"
	IO         = "storage-io"
)

// An Error is one failure.
type Error struct {
	Class  string // one of the constants
	Text   string // one sentence, without the remedy
	Remedy string // what to do next: a command or a sentence; may be empty
	Err    error  // the cause; may be nil
}

// Error returns the sentence, followed by the remedy if there is one.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return printable.Line(e.Text)
	}
	return printable.Line(e.Text + " (" + e.Remedy + ")")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an Error whose text is formatted as by [fmt.Errorf]; what %w
// formats becomes the cause.
func New(class, remedy, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: class, Text: err.Error(), Remedy: remedy, Err: errors.Unwrap(err)}
}

// Explain returns err as an Error that names the operation and the path. It
// returns nil for nil, and err itself if it contains an Error already.
func Explain(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	class, remedy := classify(err)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err // the sentence names the path already
	}
	return &Error{Class: class, Text: fmt.Sprintf("%s %q: %v", operation, path, err), Remedy: remedy, Err: err}
}

// classify returns the class and the remedy for an error of the operating
// system.
func classify(err error) (class, remedy string) {
	switch {
	case errors.Is(err, syscall.ESTALE):
		return Stale, "the share's server lost track of it; try again, or mount the share again"
	case errors.Is(err, fs.ErrPermission):
		return Permission, "give the agent's user access to it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return Space, "free some space, or run: kitt-agent models rm"
	case errors.Is(err, fs.ErrNotExist):
		return Changed, "it was removed in the meantime; try again"
	}
	return IO, ""
}

// ClassOf returns the class of the first Error in err, or an empty string.
func ClassOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ""
}

// First returns the first Error in err without what is joined to it, or err
// itself if it contains none.
func First(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return err
}
