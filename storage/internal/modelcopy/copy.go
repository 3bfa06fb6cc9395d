package modelcopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

const (
	directBlock = 1 << 20   // of one read from a disk or a network: as of a good NFS mount (rsize)
	cachedBlock = 256 << 10 // of one read from the page cache: it stays in the CPU's cache while it is hashed and written
	smallBuffer = 64 << 10  // files up to this size need no large buffer
	zeroBlock   = 4 << 10   // smallest hole that is kept
	directUnit  = 4 << 10   // direct reads are multiples of this: no sector of a disk is larger
)

// DefaultWorkers is the number of workers where Options has none.
const DefaultWorkers = 16

// Options describe one copy. All fields but Files, Link and Workers are required.
type Options struct {
	Share string // the directory where the share is mounted
	Model string // path of the model below it, without links unless it is a link to a file
	// Files, if set, are the names of the files in the directory Model that are
	// copied. Nothing else in it is. Links among them are followed.
	Files []string

	// Link lets a copy of files on the same disk share their blocks or be further
	// names of them (hard links), and take no space of its own.
	Link bool

	Stage   string // the staging directory; it may hold an interrupted copy of the same model
	Workers int    // parts of large files copied in parallel from a network; 0 means DefaultWorkers

	Counters *Counters    // count the progress
	Note     func(string) // receives lines for the job's log, from one goroutine at a time

	// Reserve is called before the first byte is written. left is how many bytes
	// the copy still needs on disk, whole how many it will have in the end. An
	// error ends the copy.
	Reserve func(left, whole int64) error
}

// name returns the path of the model, or of the first of its files, for errors. It
// is absolute for a model of this machine.
func (o Options) name() string {
	name := o.Model
	if len(o.Files) > 0 {
		name = path.Join(name, o.Files[0])
	}
	if o.Link {
		name = path.Join(o.Share, name)
	}
	return name
}

// Copy copies a model from the share to Stage/data, where it is complete when
// Copy returns without an error. It writes only below Stage. It uses one
// goroutine for each of timers, at most (see [MaxParallel]), of which there must
// be at least one. Its errors are a [fault.Error] or the cause of ctx's end.
func Copy(ctx context.Context, o Options, timers []*OpTimer) (*Result, error) {
	return newCopier(o).run(ctx, timers)
}

// A copier is one call of Copy.
type copier struct {
	Options

	src     *Source
	into    beneath.Folder // Stage
	journal *journal
	tree    *tree
	remote  bool        // the share is behind a network
	fresh   bool        // no earlier run left anything in Stage
	huge    bool        // the model would displace everything else from the page cache
	sharing sharing     // what the files of the copy share with the originals
	noClone atomic.Bool // the file system shares no blocks with the share
	zeroes  []byte
	buffers chan []byte // large ones, nil until they are needed
	files   []*fileCopy
}

func newCopier(o Options) *copier {
	if o.Workers == 0 {
		o.Workers = DefaultWorkers
	}
	return &copier{Options: o, zeroes: make([]byte, directBlock)}
}

// A fileCopy is a file that is being copied. There may be very many.
type fileCopy struct {
	*entry
	hashes    []hash // of its pieces
	had       *journalled
	number    int32        // in the journal; 0 until it is in there; guarded by journal.mu
	left      atomic.Int32 // pieces that are not complete yet
	cloned    bool         // it shares the blocks of the original, or is a hard link to it; set by prepareOnce
	allocated bool         // its space is preallocated; set by prepareOnce
	kept      int64        // mtime of the copy: the disk's file system may store it less precisely

	prepareOnce sync.Once
	err         error // of preparing it; set by prepareOnce
}

// large reports whether the file has several pieces.
func (f *fileCopy) large() bool { return len(f.hashes) > 1 }

// sum returns the file's hash once it is complete.
func (f *fileCopy) sum() hash { return joinHashes(f.hashes) }

// finalMode returns the mode that the copy gets.
func (f *fileCopy) finalMode() fs.FileMode { return f.mode.Perm() | 0o400 }

// run copies the model, and a second time what changed or was damaged meanwhile.
func (c *copier) run(ctx context.Context, timers []*OpTimer) (*Result, error) {
	for attempt := 1; ; attempt++ {
		err := c.attempt(ctx, timers)
		if err == nil {
			return c.result(), nil
		}
		if ctx.Err() != nil || attempt == 2 {
			return nil, err
		}
		switch iofault.ClassOf(err) {
		case iofault.Changed, iofault.Damaged, iofault.Stale:
			c.Note(fmt.Sprintf("%v; copying it once more", err))
		default:
			return nil, err
		}
	}
}

func (c *copier) attempt(ctx context.Context, timers []*OpTimer) (err error) {
	if err := c.openShare(timers[0]); err != nil {
		return iofault.Explain("open the share", c.Share, err)
	}
	defer func() { err = errors.Join(err, c.src.Close()) }()
	if !c.remote {
		timers = timers[:min(c.Workers, len(timers))]
	}
	if c.tree, err = scan(ctx, c.src, c.Options, timers, false); err != nil {
		return err
	}
	if err := checkComplete(ctx, c.src, c.tree, c.Options, timers); err != nil {
		return err
	}
	if err := c.openStage(); err != nil {
		return iofault.Explain("prepare", c.Stage, err)
	}
	defer func() { err = errors.Join(err, c.journal.close(), c.into.Close()) }()

	for _, step := range []func(context.Context, []*OpTimer) error{c.plan, c.copyFiles, c.makeLinks, c.verify, c.rescan} {
		if err := step(ctx, timers); err != nil {
			return err
		}
	}
	return c.setDirectoryTimes()
}

// openShare opens the share and prepares for how it is connected.
func (c *copier) openShare(t *OpTimer) (err error) {
	t.Begin(&opOpen, &c.Share)
	defer t.End()
	if c.src, err = OpenSource(c.Share); err != nil {
		return err
	}
	c.remote = isRemote(c.src.Dir)
	c.buffers = make(chan []byte, c.Workers)
	for range c.Workers {
		c.buffers <- nil
	}
	return nil
}

// rescan compares the model on the share with what the first scan found.
func (c *copier) rescan(ctx context.Context, timers []*OpTimer) error {
	again, err := scan(ctx, c.src, c.Options, timers, true)
	if err == nil && again.print != c.tree.print {
		err = fault.New(iofault.Changed, "copy the model when nothing writes to it", "%q changed while it was copied", c.name())
	}
	return err
}

// srcOf returns where an entry is on the share.
func (c *copier) srcOf(e *entry) string {
	if e.src != "" {
		return e.src
	}
	return path.Join(c.Model, e.path)
}

// to returns where an entry is copied to, relative to the staging directory.
func to(rel string) string { return path.Join("data", rel) }
