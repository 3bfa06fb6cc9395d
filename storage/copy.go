package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
)

const (
	directBlock = 1 << 20   // of one read from a disk or a network: as of a good NFS mount (rsize)
	cachedBlock = 256 << 10 // of one read from the page cache: it stays in the CPU's cache while it is hashed and written
	smallBuffer = 64 << 10  // files up to here need no large buffer
	zeroBlock   = 4 << 10   // smallest hole that is kept
	directUnit  = 4 << 10   // what reads past the page cache are multiples of: no sector of a disk is larger
)

// A copying is one run of the copy engine: it brings the model at rel on the
// share into the directory stage, as "data", which is a directory or a file.
// Nothing outside of stage is written.
type copying struct {
	mount   string
	rel     string
	stage   string
	workers int          // parts of large files that are copied at once from a network; 0 means defaultWorkers
	note    func(string) // takes lines for the job's reader
	count   *counters

	// reserve is asked for space before the first byte: how much the copy still
	// takes, and how much with what is here already.
	reserve func(left, whole int64) error

	src     *source
	into    folder // stage
	journal *journal
	tree    *tree
	remote  bool        // the share is behind a network
	fresh   bool        // no earlier attempt left anything in stage
	huge    bool        // the model would push everything else out of the page cache
	noClone atomic.Bool // the file system shares no blocks with the share
	zeroes  []byte
	buffers chan []byte // large ones, nil until they are needed
	files   []*copyFile
}

// counters are what a copying tells about its progress.
type counters struct {
	bytesDone, bytesTotal, filesDone, filesTotal atomic.Int64
	bytesRead                                    atomic.Int64 // from the share
	reserved                                     atomic.Int64 // space that was asked for
	placed                                       atomic.Int64 // bytes whose space is taken, even if they are not here yet
}

// A copyFile is a file that is being copied. There may be very many.
type copyFile struct {
	*entry
	hashes []hash // of its pieces
	had    *journalled
	number int32        // in the journal; 0 until it is in there
	left   atomic.Int32 // pieces that are not whole yet
	cloned bool
	placed bool  // its space is taken
	kept   int64 // mtime of the copy: the disk's file system may keep it less precisely

	once sync.Once
	err  error // of readying it
}

// large reports whether the file has several pieces.
func (f *copyFile) large() bool { return len(f.hashes) > 1 }

// sum returns the file's hash once it is whole.
func (f *copyFile) sum() hash { return joinHashes(f.hashes) }

// finalMode returns the mode that the copy is to have.
func (f *copyFile) finalMode() fs.FileMode { return f.mode.Perm() | 0o400 }

// run copies the model, and once more what changed or was damaged meanwhile.
func (c *copying) run(ctx context.Context, pulses []*pulse) (err error) {
	if c.workers == 0 {
		c.workers = defaultWorkers
	}
	c.zeroes = make([]byte, directBlock)
	for attempt := 1; ; attempt++ {
		err = c.attempt(ctx, pulses)
		if err == nil || ctx.Err() != nil || attempt == 2 {
			return err
		}
		switch classOf(err) {
		case ClassChanged, ClassDamaged, ClassStale:
			c.note(fmt.Sprintf("%v; once more", err))
		default:
			return err
		}
	}
}

func (c *copying) attempt(ctx context.Context, pulses []*pulse) (err error) {
	p := pulses[0]
	p.begin(&opOpen, &c.mount)
	c.src, err = openSource(c.mount)
	p.end()
	if err != nil {
		return explain("open the share", c.mount, err)
	}
	defer func() { err = errors.Join(err, c.src.close()) }()
	c.remote = isRemote(c.src.dir)
	if !c.remote {
		pulses = pulses[:min(c.workers, len(pulses))]
	}
	c.buffers = make(chan []byte, c.workers)
	for range c.workers {
		c.buffers <- nil
	}
	if c.tree, err = scan(ctx, c.src, c.rel, pulses, false, c.note); err != nil {
		return err
	}
	if err := c.openStage(); err != nil {
		return explain("prepare", c.stage, err)
	}
	defer func() { err = errors.Join(err, c.journal.close(), c.into.closeRoot()) }()

	if err := c.prepare(ctx, pulses); err != nil {
		return err
	}
	if err := c.copyFiles(ctx, pulses); err != nil {
		return err
	}
	if err := c.links(); err != nil {
		return err
	}
	if err := c.verify(ctx, pulses); err != nil {
		return err
	}
	again, err := scan(ctx, c.src, c.rel, pulses, true, func(string) {})
	if err != nil {
		return err
	}
	if again.print != c.tree.print {
		return fail(ClassChanged, "copy the model when nothing writes to it", "%q changed while it was copied", c.rel)
	}
	return c.directoryTimes()
}

// srcOf returns where an entry is on the share.
func (c *copying) srcOf(e *entry) string {
	if e.src != "" {
		return e.src
	}
	return path.Join(c.rel, e.path)
}

// to returns where an entry goes, relative to the staging directory.
func to(rel string) string { return path.Join("data", rel) }

// prepare sees what is there already, asks for space and makes the directories.
func (c *copying) prepare(ctx context.Context, pulses []*pulse) error {
	c.files = make([]*copyFile, 0, c.tree.files)
	files := make([]copyFile, c.tree.files)
	// Many files have one piece; their hashes come from large allocations.
	var spare []hash
	hashes := func(n int) []hash {
		if n > cap(spare)-len(spare) {
			spare = make([]hash, 0, max(n, 4096))
		}
		at := len(spare)
		spare = spare[:at+n]
		return spare[at : at+n : at+n]
	}
	var staged, cost int64
	sparse := []*entry{}
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		switch e.kind {
		case kindDir:
			cost += zeroBlock
		case kindFile:
			f := &files[len(c.files)]
			f.entry, f.hashes, f.had = e, hashes(pieces(e.size, c.journal.piece)), c.journal.had(e)
			f.left.Store(int32(len(f.hashes)))
			c.files = append(c.files, f)
			if f.had != nil {
				if info, err := c.into.root.Lstat(to(e.path)); err == nil {
					staged += metaOf(info).allocated
				}
			}
			if e.holes {
				sparse = append(sparse, e)
			} else {
				cost += (e.size + zeroBlock - 1) &^ (zeroBlock - 1)
			}
		}
	}
	var holey atomic.Int64
	err := parallel(ctx, pulses, len(sparse), func(p *pulse, i int) error {
		at := c.srcOf(sparse[i])
		p.begin(&opOpen, &at)
		defer p.end()
		f, err := c.src.open(at)
		if err != nil {
			return explain("open", at, err)
		}
		holey.Add(dataBytes(f, sparse[i].size))
		return f.Close()
	})
	if err != nil {
		return err
	}
	memory := memoryTotal()
	c.huge = memory > 0 && c.tree.bytes > memory/2
	c.count.bytesTotal.Store(c.tree.bytes)
	c.count.filesTotal.Store(int64(len(c.files)))
	c.count.bytesDone.Store(0)
	c.count.filesDone.Store(0)
	c.count.placed.Store(0)
	if staged > 0 {
		c.note(fmt.Sprintf("going on with an interrupted copy: up to %s are here already", sizeText(staged)))
	}
	whole := cost + holey.Load()
	if err := c.reserve(max(whole-staged, 0), whole); err != nil {
		return err
	}
	return c.makeDirectories()
}
