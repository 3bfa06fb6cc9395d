package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Classes of failure, for machines; see [Error].
const (
	ClassInvalid    = "model-invalid"      // the name cannot be a model's
	ClassNotFound   = "model-not-found"    // there is no such model
	ClassAmbiguous  = "model-ambiguous"    // several models match
	ClassUnmounted  = "share-unmounted"    // the share could not be mounted
	ClassHung       = "share-hung"         // an operation did not come back in time
	ClassStale      = "share-stale"        // the server no longer knows what was open (ESTALE)
	ClassPermission = "permission"         // a file or directory may not be read or written
	ClassEscape     = "path-escape"        // a link or path leads out of where it belongs
	ClassLoop       = "directory-loop"     // a directory contains itself
	ClassSpace      = "disk-full"          // the copy would not fit, or did not
	ClassChanged    = "source-changed"     // the model changed while it was copied
	ClassDamaged    = "verification"       // the copy is not what its checksum or header says
	ClassConflict   = "storage-conflict"   // something else is where the copy belongs
	ClassSettings   = "storage-settings"   // the settings make no sense
	ClassIO         = "storage-io"         // any other failure of a disk or share
	ClassClosed     = "storage-closed"     // the storage was closed
	ClassUnreadable = "storage-unreadable" // the storage directory cannot be used
)

// An Error is a failure to provide or remove a model: one sentence for a
// person, a class for a machine and, where there is one, what mends it.
type Error struct {
	Kind   string // one of the Class constants
	Text   string // one sentence, without the remedy
	Remedy string // a command or a sentence that says what to do; may be empty
	Err    error  // what lies beneath; may be nil
}

// Error returns the sentence, with the remedy behind it where there is one.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return oneLine(e.Text)
	}
	return oneLine(e.Text + " (" + e.Remedy + ")")
}

// Unwrap returns what lies beneath.
func (e *Error) Unwrap() error { return e.Err }

// Class returns the failure's class, for machines.
func (e *Error) Class() string { return e.Kind }

// Fix returns what mends the failure, or an empty text.
func (e *Error) Fix() string { return e.Remedy }

// fail returns an Error of kind; a trailing %w is kept as what lies beneath.
func fail(kind, remedy, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Text: err.Error(), Remedy: remedy, Err: errors.Unwrap(err)}
}

// explain turns err, which came from doing something to path, into an Error.
// One that already is an Error is returned as it is.
func explain(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	kind, remedy := ClassIO, ""
	switch {
	case errors.Is(err, syscall.ESTALE):
		kind, remedy = ClassStale, "the share's server lost track of it; try again, or mount the share anew"
	case errors.Is(err, fs.ErrPermission):
		kind, remedy = ClassPermission, "give the agent's user access to it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, remedy = ClassSpace, "free some space, or run: kitt-agent models rm"
	case errors.Is(err, fs.ErrNotExist):
		kind, remedy = ClassChanged, "it was removed meanwhile; try again"
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err // the path is said once
	}
	return &Error{Kind: kind, Text: fmt.Sprintf("%s %q: %v", doing, path, err), Remedy: remedy, Err: err}
}

// classOf returns the class of err, or an empty text.
func classOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// quoteAll lists names for a person.
func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ")
}

// firstOf undoes errors.Join where there is only one error of interest.
func firstOf(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return err
}
