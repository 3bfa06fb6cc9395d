// Package storage brings models to local disk and keeps them there for as long
// as a job needs them.
//
// A [Storage] takes the path or name of a model and gives a [Lease] on a whole
// local copy. A copy that is leased is never deleted, nor is a model that the
// storage did not copy itself.
//
// [Local] is the Storage of this machine's disk. It looks for a model in its
// storage directory, then on a share, which it mounts if it has to, then
// elsewhere on the machine; an identifier that is no path is left to the engine.
// What is on the share is copied to the same path below the storage directory.
//
// A copy is made in a staging directory beside its place and appears by one
// rename. It is read in pieces, many at once from a network and few from a
// local disk, past the page cache where that doesn't hold them, and hashed
// (XXH3-128) on the way; a journal in the staging directory tells which pieces
// are whole, so that an interrupted copy goes on where it was. Where the file
// system can share blocks nothing is read at all. Otherwise the bytes pass
// through us, as they have to be hashed: copy_file_range would mean to read
// them twice. The source is looked at again at the end; headers of safetensors
// and GGUF files and checksums on the share are held against the copy; what
// does not fit is copied once more, and then refused.
//
// A copy is not waited for until it is on disk. Should the machine lose power
// before it is, the copy is checked against its hashes at its next use.
//
// Everything that touches the share runs behind a gate: an operation that does
// not come back in time is left behind, and while it hangs nothing else is begun
// there. Several storages, also of several processes, may use one directory;
// what they must agree on is in files below its directory .kitt, changed under a
// lock.
package storage

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// Storage holds models on local disk. Its methods are safe for concurrent use.
type Storage interface {
	// Acquire makes the model that req asks for available and returns a lease
	// on it. It returns when the whole model is there, an error makes it
	// impossible, or ctx is done. Asking again for the same holder and model,
	// as after a restart, gives the lease that the holder already has.
	Acquire(ctx context.Context, req Request) (*Lease, error)

	// Evict removes the local copy of model, or every copy if model is empty,
	// but nothing that is leased and nothing that the storage did not copy.
	Evict(ctx context.Context, model string) (Eviction, error)

	// Usage says how full the storage is.
	Usage(ctx context.Context) (Usage, error)
}

// A Planner is a Storage that wants to know which models waiting jobs will ask
// for, so that it keeps their copies.
type Planner interface {
	// Plan says what all the waiting jobs want, in place of what was said
	// before.
	Plan(models []string)
}

// A Configurer is a Storage whose settings can change while it is in use.
type Configurer interface {
	// Settings returns the settings in force.
	Settings() Settings

	// Configure changes them for the next Acquire, which harms no lease. If they
	// make no sense it returns an error and the old ones stay.
	Configure(Settings) error
}

// A LeaseKeeper is a Storage whose leases last through a restart of the program.
type LeaseKeeper interface {
	// ReleaseExcept ends the leases whose holder keep does not want kept, such as
	// those of jobs that are over, and returns the holders.
	ReleaseExcept(ctx context.Context, keep func(holder string) bool) ([]string, error)
}

// Settings are those of a storage that the KITT server can change.
type Settings struct {
	Dir         string // where copies are kept; a leading ~ is the home directory
	ShareSource string // what is mounted, such as nas:/volume1/models; empty without a share
	ShareMount  string // where it is mounted; empty without a share
	AutoCleanup bool   // whether a copy goes when nobody needs it any more
}

// A Request asks for a model on behalf of a holder.
type Request struct {
	Model  string // a path or an identifier, as the server names it
	Holder string // who asks, such as a job's directory; the lease is the holder's across restarts

	// Log takes lines about what is done, for the job's reader; nil discards
	// them.
	Log io.Writer

	// Progress, if set, is called while a copy is made, at most a few times a
	// second and never at the same time twice.
	Progress func(Progress)
}

// Progress is how far a copy is.
type Progress struct {
	BytesDone  int64         `json:"bytes_done"`
	BytesTotal int64         `json:"bytes_total"` // 0 while not yet known
	FilesDone  int           `json:"files_done"`
	FilesTotal int           `json:"files_total"`
	Rate       float64       `json:"rate"`         // bytes a second, over the last few seconds
	Remaining  time.Duration `json:"remaining_ns"` // at that rate; 0 while not known
}

// Where a lease's model comes from.
const (
	OriginLocal      = "local"      // found in the storage directory
	OriginCopied     = "copied"     // copied from the share
	OriginInPlace    = "in-place"   // somewhere else on this machine
	OriginIdentifier = "identifier" // no path: the engine fetches it
)

// A Lease is a holder's claim on a model. Release ends it.
type Lease struct {
	// Path is what to hand to the benchmark: an absolute path without symbolic
	// links, or an identifier.
	Path string

	// Origin is one of the Origin constants.
	Origin string

	once    sync.Once
	release func() error
	err     error
}

// NewLease returns a lease whose Release calls release once; nil does nothing.
func NewLease(path, origin string, release func() error) *Lease {
	return &Lease{Path: path, Origin: origin, release: release}
}

// Release gives the claim up; it may be called more than once.
func (l *Lease) Release() error {
	l.once.Do(func() {
		if l.release != nil {
			l.err = l.release()
		}
	})
	return l.err
}

// An Eviction says what a cleanup did.
type Eviction struct {
	Removed    []string `json:"removed"` // paths that are gone
	BytesFreed int64    `json:"bytes_freed"`
	Kept       []Kept   `json:"kept"` // what was not removed, and why
}

// Kept is a model that a cleanup left where it is.
type Kept struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Usage is the state of the file system that holds the models, and of the
// models in it.
type Usage struct {
	FreeBytes  int64 // available to the agent's user
	UsedBytes  int64 // of the whole file system
	ModelCount int   // models in the storage directory
}

// ErrNotFound is matched by errors that say that there is no such model.
var ErrNotFound = errors.New("model not found")
