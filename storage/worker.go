package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/zeebo/xxh3"
)

// A worker copies one span after the other. It keeps the last file and its
// directories open, as the next span is often the next part of it.
type worker struct {
	c      *copying
	pulse  *pulse
	hasher *xxh3.Hasher
	small  []byte // a buffer of smallBuffer bytes, made when it is needed

	from, into folder // the directories of file on the share and in the stage
	file       *copyFile
	at         string // of file on the share
	src, dst   *os.File
	direct     bool // what is read of src passes the page cache by
	indirect   bool // src cannot do that

	// made remembers which modes new files get as they are asked for, whatever
	// the process's umask or the directory's default ACL takes away.
	made map[fs.FileMode]bool

	// exact says that the disk's file system keeps nanoseconds, at least up to
	// maxTime.
	exact bool
}

// maxTime is the end of the year 2037, which every file system knows.
const maxTime = (1<<31 - 1) * int64(time.Second)

func (w *worker) leaveFile() (err error) {
	if w.src != nil {
		w.pulse.begin(&opClose, &w.at)
		err = w.src.Close()
		w.pulse.end()
	}
	if w.dst != nil {
		err = errors.Join(err, w.dst.Close())
	}
	w.file, w.src, w.dst = nil, nil, nil
	return err
}

func (w *worker) leaveFolders() error {
	err := errors.Join(w.from.close(), w.into.close())
	w.from, w.into = folder{}, folder{}
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

// copyPieces copies pieces of a file, and finishes it if they were the last.
func (w *worker) copyPieces(ctx context.Context, f *copyFile, from, to int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if w.file != f {
		if err := w.leaveFile(); err != nil {
			return explain("close", f.path, err)
		}
		w.file, w.at = f, w.c.srcOf(f.entry)
	}
	f.once.Do(func() { f.err = w.begin() })
	if f.err != nil {
		return f.err
	}
	if f.cloned {
		return nil
	}
	if err := w.openTarget(); err != nil {
		return explain("write", w.at, err)
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
		sum, err := w.piece(ctx, at, off, n)
		if err != nil {
			return err
		}
		f.hashes[at] = sum
		if err := w.c.journal.add(f, at, n, sum); err != nil {
			return explain("write", w.c.stage, err)
		}
		w.c.count.bytesDone.Add(n)
		if !f.placed {
			w.c.count.placed.Add(n)
		}
		if f.left.Add(-1) == 0 {
			return w.finish()
		}
	}
	return nil
}

// openTarget opens the file in the stage, if it is not open. A new file of one piece gets its mode
// at once; others may have to be opened for writing again.
func (w *worker) openTarget() (err error) {
	if w.dst != nil {
		return nil
	}
	name := to(w.file.path)
	dir, base := path.Dir(name), path.Base(name)
	if w.into.dir == nil || w.into.path != dir {
		if err := w.into.close(); err != nil {
			return err
		}
		if w.into, err = w.c.into.enter(dir); err != nil {
			return err
		}
	}
	perm := fs.FileMode(0o600)
	if w.c.fresh && !w.file.large() {
		perm = w.file.finalMode()
	}
	w.dst, err = w.into.open(base, os.O_RDWR|os.O_CREATE, perm)
	if errors.Is(err, fs.ErrPermission) { // an earlier run finished it
		if err = w.c.into.root.Chmod(name, 0o600); err == nil {
			w.dst, err = w.into.open(base, os.O_RDWR, 0)
		}
	}
	return err
}

// openSource opens the file on the share, if it is not open, and makes sure
// that it is the one that was planned.
func (w *worker) openSource() (err error) {
	if w.src != nil {
		return nil
	}
	f, dir := w.file, path.Dir(w.at)
	w.pulse.begin(&opOpen, &w.at)
	defer w.pulse.end()
	if w.from.dir == nil || w.from.path != dir {
		if err := w.from.close(); err != nil {
			return explain("close", w.from.path, err)
		}
		if w.from, err = w.c.src.enter(dir); err != nil {
			return explain("open", dir, err)
		}
	}
	if w.src, err = w.from.open(path.Base(w.at), os.O_RDONLY, 0); err != nil {
		return explain("open", w.at, err)
	}
	info, err := w.src.Stat()
	if err != nil {
		return explain("look at", w.at, err)
	}
	if !metaOf(info).same(f.stamp) {
		return fail(ClassChanged, "copy the model when nothing writes to it", "%q changed while the model was copied", w.at)
	}
	w.direct, w.indirect = false, false
	if f.large() {
		advise(w.src, w.c.remote)
	}
	return nil
}

// begin readies the file's copy: shares its blocks with the share's file where
// that can be, otherwise gives it its size and, unless it is sparse, its space.
func (w *worker) begin() error {
	f, c := w.file, w.c
	if err := w.openTarget(); err != nil {
		return explain("write", w.at, err)
	}
	if f.had == nil && !c.fresh {
		if err := w.dst.Truncate(0); err != nil {
			return explain("write", f.path, err)
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
			c.count.bytesDone.Add(f.size)
			c.count.placed.Add(f.size)
			return w.finish()
		}
		c.noClone.Store(true)
	}
	if len(f.hashes) == 1 && !f.holes {
		return nil // one write gives it both
	}
	if err := w.dst.Truncate(f.size); err != nil {
		return explain("write", f.path, err)
	}
	if f.holes {
		return nil
	}
	placed, err := preallocate(w.dst, f.size)
	if placed {
		f.placed = true
		c.count.placed.Add(f.size)
	}
	return explain("reserve space for", f.path, err)
}

// finish gives a file that is whole its mode and time.
func (w *worker) finish() error {
	f := w.file
	if err := w.setMode(); err != nil {
		return explain("write", f.path, err)
	}
	if err := setTimes(w.into.dir, path.Base(to(f.path)), f.mtime); err != nil {
		return explain("write", f.path, err)
	}
	f.kept = f.mtime
	if !w.exact || f.mtime < 0 || f.mtime > maxTime {
		info, err := w.dst.Stat()
		if err != nil {
			return explain("write", f.path, err)
		}
		f.kept = info.ModTime().UnixNano()
		w.exact = w.exact || f.kept == f.mtime && f.mtime%100 != 0 // that no coarser time is
	}
	w.c.count.filesDone.Add(1)
	return nil
}

// setMode gives the file its mode, unless it was made with it.
func (w *worker) setMode() error {
	mode := w.file.finalMode()
	if !w.c.fresh || w.file.large() || w.file.cloned {
		return w.dst.Chmod(mode)
	}
	kept, known := w.made[mode]
	if !known {
		info, err := w.dst.Stat()
		if err != nil {
			return err
		}
		if w.made == nil {
			w.made = map[fs.FileMode]bool{}
		}
		kept = info.Mode().Perm() == mode
		w.made[mode] = kept
	}
	if kept {
		return nil
	}
	return w.dst.Chmod(mode)
}
