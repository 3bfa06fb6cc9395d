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
	// Acquire makes the requested model available and returns a lease on it. It
	// returns when the whole model is available, an error makes that impossible, or
	// ctx is done. A second request for the same holder and model, as after a
	// restart, returns the lease that the holder already has. The error matches
	// [ErrNotFound] if there is no such model.
	Acquire(ctx context.Context, req Request) (*Lease, error)

	// Evict removes the local copy of model, or every copy if model is empty. It
	// removes nothing that is leased and nothing that the storage did not copy.
	Evict(ctx context.Context, model string) (Eviction, error)

	// Usage returns how full the storage is.
	Usage(ctx context.Context) (Usage, error)
}

// A Planner is a Storage that keeps the copies of models which waiting jobs will
// request.
type Planner interface {
	// Plan sets the models of all waiting jobs, in place of the previous ones.
	Plan(models []string)
}

// A Configurer is a Storage whose settings can change while it is in use.
type Configurer interface {
	// Settings returns the current settings.
	Settings() Settings

	// Configure changes the settings for the next Acquire. Leases stay. If the
	// settings make no sense it returns an error, and the old ones stay.
	Configure(Settings) error
}

// A LeaseKeeper is a Storage whose leases survive a restart of the program.
type LeaseKeeper interface {
	// ReleaseExcept ends the leases whose holder keep rejects, such as those of jobs
	// that have ended. It returns their holders.
	ReleaseExcept(ctx context.Context, keep func(holder string) bool) ([]string, error)
}

// Settings are the settings of a storage that the KITT server can change.
type Settings struct {
	Dir         string // where copies are kept; a leading ~ is the home directory
	ShareSource string // what is mounted, such as nas:/volume1/models; empty without a share
	ShareMount  string // where it is mounted; empty without a share
	AutoCleanup bool   // whether a copy is removed after its last lease, unless a waiting job wants it
}

// A Request requests a model on behalf of a holder.
type Request struct {
	Model  string // a path or an identifier, as the server names it
	Holder string // owner of the lease across restarts, such as a job's directory

	// Log receives lines about what the storage does, for the job's log; nil
	// discards them.
	Log io.Writer

	// Progress, if set, is called during a copy, up to four times a second and never
	// concurrently.
	Progress func(Progress)
}

// Progress is the progress of a copy.
type Progress struct {
	BytesDone  int64         `json:"bytes_done"`
	BytesTotal int64         `json:"bytes_total"` // 0 until it is known
	FilesDone  int           `json:"files_done"`
	FilesTotal int           `json:"files_total"`
	Rate       float64       `json:"rate"`         // bytes per second, over the last 5 s
	Remaining  time.Duration `json:"remaining_ns"` // at that rate; 0 if unknown
}

// Where a lease's model comes from.
const (
	OriginLocal      = "local"      // found in the storage directory
	OriginCopied     = "copied"     // copied from the share
	OriginInPlace    = "in-place"   // elsewhere on this machine
	OriginIdentifier = "identifier" // not a path: the engine fetches it
)

// A Lease is a holder's claim on a model. Release ends it.
type Lease struct {
	// Path is for the benchmark: an absolute path without symbolic links, or an
	// identifier.
	Path string

	// Name is what the model is called on every machine: as it was requested, or, if
	// that was an absolute path, its path below the share or the storage directory.
	// Empty means as requested.
	Name string

	// Files are the paths of all files of a model that is several files of a
	// directory, such as the parts of a split GGUF file. Path is one of them. It is nil
	// for other models.
	Files []string

	// Origin is one of the Origin constants.
	Origin string

	// Hash is the hash of the copy that Path is, as [Copy] has it: the same for the same
	// files on every machine whose Config.Streams is 16 or less. It is empty if
	// Path is no copy of the storage's, or a part of one.
	Hash string

	once    sync.Once
	release func() error
	err     error
}

// NewLease returns a lease whose Release calls release once; nil does nothing.
func NewLease(path, origin string, release func() error) *Lease {
	return &Lease{Path: path, Origin: origin, release: release}
}

// Release ends the claim. It may be called more than once and always returns the
// same error.
func (l *Lease) Release() error {
	l.once.Do(func() {
		if l.release != nil {
			l.err = l.release()
		}
	})
	return l.err
}

// An Eviction is what a cleanup did.
type Eviction struct {
	Removed    []string `json:"removed"` // paths that no longer exist
	BytesFreed int64    `json:"bytes_freed"`
	Kept       []Kept   `json:"kept"` // what stays, and why
}

// Kept is a model that a cleanup did not remove.
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

// ErrNotFound is matched by errors for a model that does not exist.
var ErrNotFound = errors.New("model not found")
