package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// rehash reads a whole copy and returns the paths of files that are missing or
// differ from what was copied. Of a file without a hash it compares only the size.
func (c localCopy) rehash(ctx context.Context, progress func(int64)) (damaged []string, err error) {
	hasher := &modelcopy.FileHasher{Root: c.dir.root, Piece: c.Piece, Progress: progress}
	_, err = readManifest(c.dir.copies.manifest(c.Path), func(it item) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var ok bool
		var err error
		if it.Kind == modelcopy.KindFile {
			ok, err = c.hasContent(ctx, hasher, it)
		} else {
			ok, err = c.isLinked(it)
		}
		if !ok && err == nil {
			damaged = append(damaged, it.Path)
		}
		return err
	})
	return damaged, err
}

// hasContent reports whether a file has the content that was copied.
func (c localCopy) hasContent(ctx context.Context, hasher *modelcopy.FileHasher, it item) (bool, error) {
	at := path.Join(c.Path, it.Path)
	if it.Hash == "" {
		info, err := c.dir.root.Stat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && info.Size() == it.Size, err
	}
	sum, size, err := hasher.Hash(ctx, at)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return size == it.Size && sum == it.Hash, err
}

// isLinked reports whether a link exists and leads where it should. Directories
// always pass.
func (c localCopy) isLinked(it item) (bool, error) {
	if it.Kind == modelcopy.KindDir {
		return true, nil
	}
	at := path.Join(c.Path, it.Path)
	info, err := c.dir.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (info.Mode()&fs.ModeSymlink != 0) != (it.Kind == modelcopy.KindSymlink) {
		return false, nil
	}
	if err != nil || it.Link == "" { // an older manifest doesn't say where it leads
		return true, err
	}
	if it.Kind == modelcopy.KindSymlink {
		text, err := c.dir.root.Readlink(at)
		return text == string(it.Link), err
	}
	first, err := c.dir.root.Lstat(path.Join(c.Path, string(it.Link)))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // the file itself is reported as missing
	}
	return err == nil && os.SameFile(info, first), err
}
