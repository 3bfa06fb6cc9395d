package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// openStage opens the staging directory and removes from it what the model no
// longer has.
func (c *copying) openStage() (err error) {
	if err := c.dropForeignStage(); err != nil {
		return err
	}
	if err := os.Mkdir(c.stage, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if c.into, err = openRoot(c.stage); err != nil {
		return err
	}
	c.journal, err = openJournal(c.journalPath(), pieceFor(c.tree.bytes, c.streams()))
	if err == nil {
		err = c.sweepStage()
		if err != nil {
			err = errors.Join(err, c.journal.close())
		}
	}
	if err != nil {
		return errors.Join(err, c.into.closeRoot())
	}
	return nil
}

func (c *copying) journalPath() string { return filepath.Join(c.stage, "journal") }

// dropForeignStage removes what is in the staging directory's place if it is not
// of our making: through a link we would write to somebody else's files.
func (c *copying) dropForeignStage() error {
	for name, ours := range map[string]func(fs.FileInfo) bool{
		c.stage:         fs.FileInfo.IsDir,
		c.journalPath(): func(info fs.FileInfo) bool { return info.Mode().IsRegular() && metaOf(info).links == 1 },
	} {
		if info, err := os.Lstat(name); err == nil && !ours(info) {
			return os.RemoveAll(c.stage)
		}
	}
	return nil
}

// sweepStage removes from the staging directory what is not in the model, or
// is there something else. Links of the model are made anew at the end, so what
// still has a second name after that is somebody else's file, too.
func (c *copying) sweepStage() error {
	top := filepath.Join(c.stage, "data")
	if _, err := os.Lstat(top); errors.Is(err, fs.ErrNotExist) {
		c.fresh = true
		return nil
	}
	c.fresh = false
	kinds := make(map[string]entryKind, len(c.tree.entries))
	for i := range c.tree.entries {
		kinds[c.tree.entries[i].path] = c.tree.entries[i].kind
	}
	var linked []string
	hasLinks := func(info fs.FileInfo, err error) bool { return err == nil && metaOf(info).links > 1 }
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
		case wanted && kind == kindDir && d.IsDir():
			return nil
		case wanted && kind == kindFile && d.Type().IsRegular():
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

func (c *copying) makeDirectories() error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		if e.kind != kindDir {
			continue
		}
		err := c.into.root.Mkdir(to(e.path), 0o700)
		if errors.Is(err, fs.ErrExist) {
			err = c.into.root.Chmod(to(e.path), 0o700) // an earlier run made it
		}
		if err != nil {
			return explain("make directory", e.path, err)
		}
	}
	return nil
}

// links makes the symbolic and hard links, which need what they lead to.
func (c *copying) links() error {
	for i := range c.tree.entries {
		e := &c.tree.entries[i]
		var err error
		switch e.kind {
		case kindSymlink:
			if err = c.into.root.Symlink(e.link, to(e.path)); err == nil {
				err = setTimes(c.into.dir, to(e.path), e.mtime)
			}
		case kindHardlink:
			err = c.into.root.Link(to(e.link), to(e.path))
		}
		if err != nil {
			return explain("link", e.path, err)
		}
	}
	return nil
}

// directoryTimes gives the directories their modes and times, the deepest first.
func (c *copying) directoryTimes() error {
	for i := len(c.tree.entries) - 1; i >= 0; i-- {
		e := &c.tree.entries[i]
		if e.kind != kindDir {
			continue
		}
		if err := c.into.root.Chmod(to(e.path), e.mode.Perm()|0o700); err != nil {
			return explain("write", e.path, err)
		}
		if err := setTimes(c.into.dir, to(e.path), e.mtime); err != nil {
			return explain("write", e.path, err)
		}
	}
	return nil
}

// discard makes sure that a file is copied anew.
func (c *copying) discard(f *copyFile) error {
	err := c.journal.forget(f)
	if rm := c.into.root.Remove(to(f.path)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}
