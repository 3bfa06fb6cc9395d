package modelcopy

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// How the files of a copy with Options.Link can take no space of their own.
type sharing int

const (
	shareNothing sharing = iota
	shareBlocks          // reflink
	shareFile            // hard link
)

const probeName = "probe" // in the staging directory

// probeSharing finds out what the first file can share with its original. Others
// may still have to be copied: they may be on another disk or belong to another
// user.
func (c *copier) probeSharing(t *OpTimer) (err error) {
	if !c.Link {
		return nil
	}
	c.noClone.Store(true)
	for _, f := range c.files {
		if f.size == 0 || f.had != nil {
			continue
		}
		at := c.srcOf(f.entry)
		t.Begin(&opOpen, &at)
		defer t.End()
		src, err := c.src.Open(at)
		if err != nil {
			return iofault.Explain("open", at, err)
		}
		if c.sharing, err = c.trySharing(src); err != nil {
			err = iofault.Explain("write", c.Stage, err)
		}
		c.noClone.Store(c.sharing != shareBlocks)
		return errors.Join(err, src.Close())
	}
	return nil
}

// trySharing makes a file in the staging directory that shares something with src,
// and removes it.
func (c *copier) trySharing(src *os.File) (sharing, error) {
	if err := c.removeStaged(probeName); err != nil { // of a run that crashed
		return shareNothing, err
	}
	probe, err := c.into.OpenFile(probeName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return shareNothing, err
	}
	cloned := reflink(probe, src)
	if err := errors.Join(probe.Close(), c.removeStaged(probeName)); cloned || err != nil {
		return shareBlocks, err
	}
	if !linkFile(src, c.into.Dir, probeName) {
		return shareNothing, nil
	}
	return shareFile, c.removeStaged(probeName)
}

func (c *copier) removeStaged(name string) error {
	if err := c.into.Root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// link makes the staged file another name of the original. It reports false if the
// file has to be copied: it is on another disk, or the kernel lets its owner alone
// make names of it (fs.protected_hardlinks in proc_sys_fs(5)). Nothing is ever
// written to a file that link made.
func (w *worker) link() (bool, error) {
	name := to(w.file.path)
	if err := w.openSource(); err != nil {
		return false, err
	}
	if err := errors.Join(w.enterTarget(), w.c.removeStaged(name)); err != nil {
		return false, iofault.Explain("write", name, err)
	}
	if !linkFile(w.src, w.into.Dir, path.Base(name)) {
		return false, nil
	}
	f := w.file
	f.cloned, f.kept = true, f.mtime
	w.c.Counters.bytesDone.Add(f.size)
	w.c.Counters.allocated.Add(f.size)
	w.c.Counters.filesDone.Add(1)
	return true, nil
}
