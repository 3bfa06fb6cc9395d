package storage

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// renameNew renames a file unless the new name exists.
func renameNew(oldPath, newPath string) error {
	err := unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// The file system can't. The caller holds the storage's lock, and rename(2)
		// itself never replaces a directory with files in it.
		if _, statErr := os.Lstat(newPath); statErr == nil {
			return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrExist}
		}
		return os.Rename(oldPath, newPath)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: err}
	}
	return nil
}

// syncFileSystem writes everything in f's file system to disk (syncfs(2)).
func syncFileSystem(f *os.File) error { return unix.Syncfs(int(f.Fd())) }

// inodeOf returns the number of a file's inode.
func inodeOf(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return st.Ino
}
