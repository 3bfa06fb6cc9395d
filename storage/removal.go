package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A localCopy is a copy in a storage directory.
type localCopy struct {
	*manifest
	dir *modelDir
}

// in returns m as a copy in d.
func (m *manifest) in(d *modelDir) localCopy { return localCopy{m, d} }

// remove removes a copy unless it is leased or contains files that were not
// copied; then it returns why it stays. The files of a damaged copy have changed,
// and are removed anyway.
func (c localCopy) remove(ctx context.Context, damaged bool) (kept string, err error) {
	if err := c.checkUnchanged(ctx, damaged); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		if errors.Is(err, fs.ErrNotExist) {
			return isBeingRemoved, nil
		}
		return err.Error(), nil
	}
	for {
		// What an earlier removal left; a directory can't be renamed over it.
		if err := c.dir.disk.removeAll(c.dir.trash(c.Path)); err != nil {
			return "", err
		}
		err = c.dir.locked(ctx, func() (err error) {
			kept, err = c.trashLocked()
			return err
		})
		if !errors.Is(err, errTrashFull) {
			break
		}
	}
	if kept != "" || err != nil {
		return kept, err
	}
	return "", c.finishRemoval(ctx)
}

const isBeingRemoved = "it is being removed"

// errTrashFull says that something is where a copy would be moved to.
var errTrashFull = errors.New("another copy of the model is being removed")

// trashLocked renames a copy out of sight, its manifest first. The lock must be
// held.
func (c localCopy) trashLocked() (kept string, err error) {
	holders, err := c.dir.leases.of(c.Path)
	if err != nil {
		return "", err
	}
	if len(holders) > 0 {
		return "in use by " + holderNames(holders), nil
	}
	now, err := c.dir.copies.at(c.Path)
	if err != nil {
		return "", err
	}
	if now == nil || now.Inode != c.Inode {
		return isBeingRemoved, nil
	}
	if _, err := os.Lstat(c.dir.trash(c.Path)); err == nil {
		return "", errTrashFull
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	visible, removing := c.dir.copies.manifest(c.Path), c.dir.copies.removing(c.Path)
	if err := os.Rename(visible, removing); err != nil {
		return "", err
	}
	if err := os.Rename(c.dir.abs(c.Path), c.dir.trash(c.Path)); err != nil { // the copy stays the storage's
		return "", errors.Join(err, os.Rename(removing, visible))
	}
	return "", nil
}

// finishRemoval deletes a copy that trashLocked has renamed. It does so even if ctx
// is done meanwhile: the copy no longer exists for anyone else.
func (c localCopy) finishRemoval(ctx context.Context) error {
	for {
		if err := c.dir.disk.removeAll(c.dir.trash(c.Path)); err != nil {
			return err
		}
		// The deletion may have taken longer than the caller waits.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		err := c.dir.locked(ctx, func() error { return c.forgetLocked() })
		cancel()
		if !errors.Is(err, errTrashFull) {
			return err
		}
	}
}

// forgetLocked removes what is left of a deleted copy: the directories that were
// made for it, and its manifest. It returns errTrashFull if another copy is in its
// trash by now. The lock must be held, since other agents make directories for
// their copies.
func (c localCopy) forgetLocked() error {
	if _, err := os.Lstat(c.dir.trash(c.Path)); err == nil {
		return errTrashFull
	}
	c.dir.pruneParents(c.Path, c.Parents)
	for _, name := range []string{c.dir.copies.durable(c.Path), c.dir.copies.removing(c.Path)} { // the last is what a crash needs
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pruneParents removes the directories above rel that are empty and among those
// that were made for copies. The lock must be held.
func (d *modelDir) pruneParents(rel string, made []rawText) {
	for dir := path.Dir(rel); dir != "."; dir = path.Dir(dir) {
		if !slices.Contains(made, rawText(dir)) {
			return
		}
		if info, err := d.root.Lstat(dir); err != nil || !info.IsDir() {
			return
		}
		if d.root.Remove(dir) != nil { // it isn't empty
			return
		}
	}
}

// resumeRemovals completes removals that a crash interrupted.
func (d *modelDir) resumeRemovals(ctx context.Context) error {
	names, err := os.ReadDir(d.copies.dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), ".gone") {
			continue
		}
		if err := d.resumeRemoval(ctx, filepath.Join(d.copies.dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// resumeRemoval completes the removal of the copy with the manifest at name. If
// the crash came between the two renames of trashLocked, it undoes the first.
func (d *modelDir) resumeRemoval(ctx context.Context, name string) error {
	var m *manifest // of a copy to delete
	err := d.locked(ctx, func() error {
		found, err := readManifest(name, nil)
		if err != nil {
			return err
		}
		if !d.copies.holds(found) {
			m = found
			return nil
		}
		if _, err = os.Lstat(d.copies.manifest(found.Path)); errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(name, d.copies.manifest(found.Path))
		}
		return err
	})
	if errors.Is(err, errManifest) || errors.Is(err, io.EOF) {
		err = os.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) { // another agent completed it
		return nil
	}
	if m == nil || err != nil {
		return err
	}
	return m.in(d).finishRemoval(ctx)
}
