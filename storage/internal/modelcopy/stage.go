package modelcopy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// openStage opens the staging directory and its journal, and removes what the
// model no longer has.
func (c *copier) openStage() (err error) {
	if err := c.removeForeignStage(); err != nil {
		return err
	}
	if err := os.Mkdir(c.Stage, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.into, err = beneath.Open(c.Stage); err != nil {
		return err
	}
	c.journal, err = openJournal(c.journalPath(), pieceFor(c.tree.bytes, c.streams()))
	if err != nil {
		return errors.Join(err, c.into.Close())
	}
	if err := c.sweepStage(); err != nil {
		return errors.Join(err, c.journal.close(), c.into.Close())
	}
	return nil
}

func (c *copier) journalPath() string { return filepath.Join(c.Stage, "journal") }

// removeForeignStage removes the staging directory if it is not ours: through a
// link in its place we would write to other people's files.
func (c *copier) removeForeignStage() error {
	for name, isOurs := range map[string]func(fs.FileInfo) bool{
		c.Stage:         fs.FileInfo.IsDir,
		c.journalPath(): func(info fs.FileInfo) bool { return info.Mode().IsRegular() && metaOf(info).links == 1 },
	} {
		if info, err := os.Lstat(name); err == nil && !isOurs(info) {
			return os.RemoveAll(c.Stage)
		}
	}
	return nil
}

// sweepStage removes from the staging directory what is not in the model or is of
// another kind there. Links are made at the end of a copy. So a file that still
// has a second name after that is linked to a file which is not ours.
func (c *copier) sweepStage() error {
	top := filepath.Join(c.Stage, "data")
	if _, err := os.Lstat(top); errors.Is(err, fs.ErrNotExist) {
		c.fresh = true
		return nil
	}
	c.fresh = false
	kinds := make(map[string]Kind, len(c.tree.entries))
	for i := range c.tree.entries {
		kinds[c.tree.entries[i].path] = c.tree.entries[i].kind
	}
	var linked []string
	err := filepath.WalkDir(top, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		kind, wanted := kinds[rel]
		switch {
		case wanted && kind == KindDir && d.IsDir():
			return nil
		case wanted && kind == KindFile && d.Type().IsRegular():
			if hasLinks(d.Info()) {
				linked = append(linked, at)
			}
			return nil
		}
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		if d.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
	for _, at := range linked {
		if hasLinks(os.Lstat(at)) {
			err = errors.Join(err, os.Remove(at))
		}
	}
	return err
}

func hasLinks(info fs.FileInfo, err error) bool { return err == nil && metaOf(info).links > 1 }

func (c *copier) makeDirectories() error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		if e.kind != KindDir {
			continue
		}
		err := c.into.Root.Mkdir(to(e.path), 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = c.into.Root.Chmod(to(e.path), 0o700) // an earlier run made it
		}
		if err != nil {
			return iofault.Explain("make directory", e.path, err)
		}
	}
	return nil
}

// makeLinks makes the symbolic and hard links, once their targets exist.
func (c *copier) makeLinks(context.Context, []*OpTimer) error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		var err error
		switch e.kind {
		case KindSymlink:
			if err = c.into.Root.Symlink(e.link, to(e.path)); err == nil {
				err = setTimes(c.into.Dir, to(e.path), e.mtime)
			}
		case KindHardlink:
			err = c.into.Root.Link(to(e.link), to(e.path))
		}
		if err != nil {
			return iofault.Explain("link", e.path, err)
		}
	}
	return nil
}

// setDirectoryTimes sets the modes and times of directories, the deepest first.
func (c *copier) setDirectoryTimes() error {
	for i := len(c.tree.entries) - 1; i >= 0; i-- {
		e := &c.tree.entries[i]
		if e.kind != KindDir {
			continue
		}
		if err := c.into.Root.Chmod(to(e.path), e.mode.Perm()|0o700); err != nil {
			return iofault.Explain("write", e.path, err)
		}
		if err := setTimes(c.into.Dir, to(e.path), e.mtime); err != nil {
			return iofault.Explain("write", e.path, err)
		}
	}
	return nil
}

// discard makes the next run copy a file from its beginning.
func (c *copier) discard(f *fileCopy) error {
	err := c.journal.invalidate(f)
	if rm := c.into.Root.Remove(to(f.path)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}
