package storage

import (
	"errors"

	"github.com/kirizan/kitt-agent/storage/internal/fault"
	"github.com/kirizan/kitt-agent/storage/internal/printable"
)

// Classes of failure, for machines; see [Error].
const (
	ClassInvalid    = "model-invalid"      // the name cannot be a model's
	ClassNotFound   = "model-not-found"    // there is no such model
	ClassAmbiguous  = "model-ambiguous"    // several models match
	ClassUnmounted  = "share-unmounted"    // the share could not be mounted
	ClassHung       = "share-hung"         // an operation did not return in time
	ClassStale      = "share-stale"        // the server no longer knows an open file (ESTALE)
	ClassPermission = "permission"         // a file or directory may not be read or written
	ClassEscape     = "path-escape"        // a link or path leads out of the share or storage directory
	ClassLoop       = "directory-loop"     // a directory contains itself
	ClassSpace      = "disk-full"          // the copy would not fit, or did not
	ClassChanged    = "source-changed"     // the model changed while it was copied
	ClassDamaged    = "verification"       // the copy differs from its checksum or header
	ClassConflict   = "storage-conflict"   // another file or copy is where the copy belongs
	ClassSettings   = "storage-settings"   // the settings make no sense
	ClassIO         = "storage-io"         // any other failure of a disk or share
	ClassClosed     = "storage-closed"     // the storage was closed
	ClassUnreadable = "storage-unreadable" // the storage directory cannot be used
)

// An Error is a failure to provide or remove a model: one sentence for people, a
// class for machines and, where there is one, a remedy.
type Error struct {
	Kind   string // one of the Class constants
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

// Class returns the failure's class, for machines.
func (e *Error) Class() string { return e.Kind }

// Fix returns the remedy, or an empty string.
func (e *Error) Fix() string { return e.Remedy }

// fail returns an Error of kind; what a trailing %w formats becomes its cause.
func fail(kind, remedy, format string, args ...any) *Error {
	return fromFault(fault.New(kind, remedy, format, args...))
}

func fromFault(e *fault.Error) *Error {
	return &Error{Kind: e.Class, Text: e.Text, Remedy: e.Remedy, Err: e.Err}
}

// explain returns err as an Error that names the operation and the path. It
// returns nil for nil, and err itself if it contains an Error already.
func explain(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return firstOf(fault.Explain(operation, path, err))
}

// classOf returns the class of the first Error in err, or an empty string.
func classOf(err error) string {
	if e, ok := errors.AsType[*Error](firstOf(err)); ok {
		return e.Kind
	}
	return ""
}

// firstOf returns the first Error in err without what is joined to it. It turns a
// fault of an internal package into an Error. It returns err itself if it contains
// neither.
func firstOf(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return fromFault(e)
	}
	return err
}
