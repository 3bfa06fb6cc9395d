package storage

import "github.com/kirizan/kitt-agent/fault"

// Classes of failure, for machines; see [Error].
const (
	ClassInvalid    = "model-invalid"      // the name cannot be a model's
	ClassNotFound   = "model-not-found"    // there is no such model
	ClassIncomplete = "model-incomplete"   // files of the model are missing
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

// An Error is a failure to provide or remove a model. Its class is one of the Class
// constants.
type Error = fault.Error
