package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// publish moves a complete copy from its stage to where it belongs.
func (c localCopy) publish(ctx context.Context, copied *modelcopy.Result) error {
	stage := c.dir.stage(c.Path)
	data := stage + "/data"
	if err := c.identify(data, copied); err != nil {
		return iofault.Explain("stat", c.Path, err)
	}
	if c.Boot == "" { // nothing would tell a reboot of the machine
		if err := c.dir.disk.syncAround(data); err != nil {
			return iofault.Explain("write", c.Path, err)
		}
	}
	file, err := c.dir.tmp.create(ctx, func(w io.Writer) error { return writeManifest(w, c.manifest, copied) })
	if err != nil {
		return iofault.Explain("write the manifest of", c.Path, err)
	}
	err = c.dir.locked(ctx, func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return c.publishLocked(data, file)
	})
	if err = errors.Join(err, file.discard()); err != nil {
		return iofault.First(err)
	}
	return iofault.Explain("remove", stage, c.dir.disk.removeAll(stage))
}

// identify sets the inodes by which the copy is recognized.
func (c localCopy) identify(data string, copied *modelcopy.Result) error {
	info, err := os.Lstat(data)
	if err != nil {
		return err
	}
	c.Inode = inodeOf(info)
	first, ok := copied.FirstFile()
	if !ok || !info.IsDir() {
		return nil
	}
	if file, err := os.Lstat(path.Join(data, first)); err == nil { // the path may be too long
		c.File, c.FileInode = rawText(first), inodeOf(file)
	}
	return nil
}

// publishLocked does what has to happen under the lock, which must be held.
func (c localCopy) publishLocked(data string, file *newFile) error {
	d, rel := c.dir, c.Path
	if err := file.install(d.copies.manifest(rel)); err != nil {
		return iofault.Explain("write the manifest of", rel, err)
	}
	// The marker of an earlier copy would say that this one is durable.
	if err := os.Remove(d.copies.durable(rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return iofault.Explain("remove", d.copies.durable(rel), err)
	}
	removeEmptyDirs(d.root, rel)
	err := renameNew(data, d.abs(rel))
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		err = &Error{Class: ClassConflict, Text: fmt.Sprintf("%q cannot be put into %s: %v", rel, d.dir, err),
			Fix: "move the file or directory of that name away", Err: err}
	}
	return iofault.First(errors.Join(iofault.Explain("rename", rel, err), os.Remove(d.copies.manifest(rel))))
}

// removeEmptyDirs removes directories that contain only directories from a copy's
// place. If anything else is there it removes nothing, and the copy cannot be put
// there.
func removeEmptyDirs(root *os.Root, rel string) {
	var dirs []string
	err := fs.WalkDir(root.FS(), rel, func(at string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = fs.ErrExist
		}
		dirs = append(dirs, at)
		return err
	})
	if err != nil {
		return
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(b, a) })
	for _, dir := range dirs {
		if root.Remove(dir) != nil {
			return
		}
	}
}
