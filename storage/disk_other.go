//go:build !linux

package storage

import (
	"io/fs"
	"os"
)

func renameNew(oldPath, newPath string) error {
	if _, err := os.Lstat(newPath); err == nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrExist}
	}
	return os.Rename(oldPath, newPath)
}

func syncFileSystem(f *os.File) error { return f.Sync() }
func inodeOf(fs.FileInfo) uint64      { return 0 }
