// Package iofault tells why a file operation on a model failed, as a [fault.Error].
package iofault

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/kirizan/kitt-agent/fault"
)

// Classes of failure. Package storage has constants with the same values.
const (
	Invalid    = "model-invalid"
	Incomplete = "model-incomplete"
	Stale      = "share-stale"
	Permission = "permission"
	Escape     = "path-escape"
	Loop       = "directory-loop"
	Space      = "disk-full"
	Changed    = "source-changed"
	Damaged    = "verification"
	IO         = "storage-io"
)

// Explain returns err as a [fault.Error] that names the operation and the path. It
// returns nil for nil, and err itself if it contains one already.
func Explain(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	class, fix := classify(err)
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err // the sentence names the path already
	}
	return &fault.Error{Class: class, Text: fmt.Sprintf("%s %q: %v", operation, path, err), Fix: fix, Err: err}
}

// classify returns the class and the fix for an error of the operating
// system.
func classify(err error) (class, fix string) {
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

// ClassOf returns the class of the first fault.Error in err, or an empty string.
func ClassOf(err error) string {
	class, _ := fault.Of(err)
	return class
}

// First returns the first fault.Error in err without what is joined to it, or err
// itself if it contains none.
func First(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	return err
}
