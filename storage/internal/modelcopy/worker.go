package modelcopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// A worker copies one span after another. It keeps the last file and its
// directories open, since the next span is often the next part of it. It belongs
// to one goroutine.
type worker struct {
	c      *copier
	timer  *OpTimer
	hasher *xxh3.Hasher
	small  []byte // a buffer of smallBuffer bytes, allocated when needed

	from, into beneath.Folder // the directories of file on the share and in the stage
	file       *fileCopy
	at         *string // path of file on the share; whoever watches timer may read it, so it never changes
	src, dst   *os.File
	direct     bool // reads of src bypass the page cache
	indirect   bool // src doesn't support direct reads

	// exactMode tells for which modes a new file gets exactly the mode that is
	// requested, in spite of the umask and the directory's default ACL.
	exactMode map[fs.FileMode]bool

	// exactTime means that the disk's file system stores nanoseconds, at least up
	// to maxTime.
	exactTime bool
}

// maxTime is a moment in January 2038, up to which every file system stores times.
const maxTime = (1<<31 - 1) * int64(time.Second)

func (w *worker) closeFile() (err error) {
	if w.src != nil {
		w.timer.Begin(&opClose, w.at)
		err = w.src.Close()
		w.timer.End()
	}
	if w.dst != nil {
		err = errors.Join(err, w.dst.Close())
	}
	w.file, w.src, w.dst = nil, nil, nil
	return err
}

func (w *worker) closeFolders() error {
	err := errors.Join(w.from.Close(), w.into.Close())
	w.from, w.into = beneath.Folder{}, beneath.Folder{}
	return err
}

func (w *worker) copySpan(ctx context.Context, s span) error {
	for _, f := range s.files {
		if err := w.copyPieces(ctx, f, s.from, min(s.to, len(f.hashes))); err != nil {
			return err
		}
	}
	return nil
}

// copyPieces copies pieces of a file and finishes the file after its last piece.
func (w *worker) copyPieces(ctx context.Context, f *fileCopy, from, to int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if w.file != f {
		if err := w.closeFile(); err != nil {
			return iofault.Explain("close", f.path, err)
		}
		at := w.c.srcOf(f.entry)
		w.file, w.at = f, &at
	}
	f.prepareOnce.Do(func() { f.err = w.prepare() })
	if f.err != nil {
		return f.err
	}
	if f.cloned {
		return nil
	}
	if err := w.openTarget(); err != nil {
		return iofault.Explain("write", *w.at, err)
	}
	if f.size == 0 {
		return w.finish()
	}
	for at := from; at < to; at++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off := int64(at) * w.c.journal.piece
		n := min(w.c.journal.piece, f.size-off)
		sum, err := w.copyPiece(ctx, at, off, n)
		if err != nil {
			return err
		}
		f.hashes[at] = sum
		if err := w.c.journal.add(f, at, n, sum); err != nil {
			return iofault.Explain("write", w.c.Stage, err)
		}
		w.c.Counters.bytesDone.Add(n)
		if !f.allocated {
			w.c.Counters.allocated.Add(n)
		}
		if f.left.Add(-1) == 0 {
			return w.finish()
		}
	}
	return nil
}

// openTarget opens the staged file if it is not open. A new file of one piece gets
// its final mode at once; others may have to be opened for writing again.
func (w *worker) openTarget() (err error) {
	if w.dst != nil {
		return nil
	}
	if err := w.enterTarget(); err != nil {
		return err
	}
	name := to(w.file.path)
	base := path.Base(name)
	perm := fs.FileMode(0o600)
	if w.c.fresh && !w.file.large() {
		perm = w.file.finalMode()
	}
	w.dst, err = w.into.OpenFile(base, os.O_RDWR|os.O_CREATE, perm)
	if errors.Is(err, fs.ErrPermission) { // an earlier run finished it
		if err = w.c.into.Root.Chmod(name, 0o600); err == nil {
			w.dst, err = w.into.OpenFile(base, os.O_RDWR, 0)
		}
	}
	return err
}

// enterTarget opens the directory of the staged file if it is not open.
func (w *worker) enterTarget() (err error) {
	dir := path.Dir(to(w.file.path))
	if w.into.Dir != nil && w.into.Path == dir {
		return nil
	}
	if err := w.into.Close(); err != nil {
		return err
	}
	w.into, err = w.c.into.Enter(dir)
	return err
}

// openSource opens the file on the share if it is not open, and makes sure that it
// is the one that the scan found.
func (w *worker) openSource() (err error) {
	if w.src != nil {
		return nil
	}
	f, dir := w.file, path.Dir(*w.at)
	w.timer.Begin(&opOpen, w.at)
	defer w.timer.End()
	if w.from.Dir == nil || w.from.Path != dir {
		if err := w.from.Close(); err != nil {
			return iofault.Explain("close", w.from.Path, err)
		}
		if w.from, err = w.c.src.Enter(dir); err != nil {
			return iofault.Explain("open", dir, err)
		}
	}
	if w.src, err = w.from.OpenFile(path.Base(*w.at), os.O_RDONLY, 0); err != nil {
		return iofault.Explain("open", *w.at, err)
	}
	info, err := w.src.Stat()
	if err != nil {
		return iofault.Explain("stat", *w.at, err)
	}
	if !w.c.stampOf(metaOf(info)).same(f.stamp) {
		return fault.New(iofault.Changed, "copy the model when nothing writes to it", "%q changed while the model was copied", *w.at)
	}
	w.direct, w.indirect = false, false
	if f.large() {
		adviseReadahead(w.src, w.c.remote)
	}
	return nil
}

// prepare prepares the staged file. It shares its blocks with the share's file
// where the file system can. Otherwise it sets its size and, unless the file is
// sparse, allocates its space.
func (w *worker) prepare() error {
	f, c := w.file, w.c
	if f.had == nil && c.sharing == shareFile {
		if done, err := w.link(); done || err != nil {
			return err
		}
	}
	if err := w.openTarget(); err != nil {
		return iofault.Explain("write", *w.at, err)
	}
	if f.had == nil && !c.fresh {
		if err := w.dst.Truncate(0); err != nil {
			return iofault.Explain("write", f.path, err)
		}
	}
	if f.size == 0 {
		return nil
	}
	if f.had == nil && !c.noClone.Load() {
		if err := w.openSource(); err != nil {
			return err
		}
		if reflink(w.dst, w.src) {
			f.cloned = true
			c.Counters.bytesDone.Add(f.size)
			c.Counters.allocated.Add(f.size)
			return w.finish()
		}
		c.noClone.Store(true)
	}
	if len(f.hashes) == 1 && !f.holes {
		return nil // one write does both
	}
	if err := w.dst.Truncate(f.size); err != nil {
		return iofault.Explain("write", f.path, err)
	}
	if f.holes {
		return nil
	}
	allocated, err := preallocate(w.dst, f.size)
	if allocated {
		f.allocated = true
		c.Counters.allocated.Add(f.size)
	}
	return iofault.Explain("reserve space for", f.path, err)
}

// finish sets the mode and time of a complete file.
func (w *worker) finish() error {
	f := w.file
	if err := w.setMode(); err != nil {
		return iofault.Explain("write", f.path, err)
	}
	if err := setTimes(w.into.Dir, path.Base(to(f.path)), f.mtime); err != nil {
		return iofault.Explain("write", f.path, err)
	}
	f.kept = f.mtime
	if !w.exactTime || f.mtime < 0 || f.mtime > maxTime {
		info, err := w.dst.Stat()
		if err != nil {
			return iofault.Explain("write", f.path, err)
		}
		f.kept = info.ModTime().UnixNano()
		w.exactTime = w.exactTime || f.kept == f.mtime && f.mtime%100 != 0 // a coarser clock would have rounded it
	}
	w.c.Counters.filesDone.Add(1)
	return nil
}

// setMode sets the file's mode, unless it was created with it.
func (w *worker) setMode() error {
	mode := w.file.finalMode()
	if !w.c.fresh || w.file.large() || w.file.cloned {
		return w.dst.Chmod(mode)
	}
	kept, known := w.exactMode[mode]
	if !known {
		info, err := w.dst.Stat()
		if err != nil {
			return err
		}
		if w.exactMode == nil {
			w.exactMode = map[fs.FileMode]bool{}
		}
		kept = info.Mode().Perm() == mode
		w.exactMode[mode] = kept
	}
	if kept {
		return nil
	}
	return w.dst.Chmod(mode)
}
