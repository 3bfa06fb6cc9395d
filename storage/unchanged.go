package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// errModified says that a file of a copy is no longer what was copied.
var errModified = errors.New("it was changed since it was copied")

// checkUnchanged makes sure that a copy contains what was copied and nothing else,
// by kinds, sizes and times. In a damaged copy the content of files may have
// changed.
func (c localCopy) checkUnchanged(ctx context.Context, damaged bool) error {
	items := map[string]item{}
	_, err := readManifest(c.dir.copies.manifest(c.Path), func(it item) error {
		items[it.Path] = it
		return nil
	})
	if err != nil {
		return err
	}
	top := c.dir.abs(c.Path)
	return filepath.WalkDir(top, func(at string, e fs.DirEntry, err error) error {
		if err == nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		it, ok := items[rel]
		if !ok {
			return fmt.Errorf("%q is not part of the copy", rel)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !it.matches(info, damaged) {
			return fmt.Errorf("%q: %w", rel, errModified)
		}
		return nil
	})
}

// matches reports whether info is of the file that was copied. A damaged file may
// have another size and time.
func (it item) matches(info fs.FileInfo, damaged bool) bool {
	switch it.Kind {
	case modelcopy.KindDir:
		return info.IsDir()
	case modelcopy.KindSymlink:
		return info.Mode().Type() == fs.ModeSymlink
	}
	return info.Mode().IsRegular() && (damaged || info.Size() == it.Size && info.ModTime().UnixNano() == it.MTime)
}
