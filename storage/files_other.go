//go:build !linux

package storage

import (
	"io/fs"
	"os"
	"path"
)

// What only Linux offers is done the plain way elsewhere.

const openPath = os.O_RDONLY

func openBeneath(at folder, rel string, flags int, perm fs.FileMode) (*os.File, error) {
	return at.root.OpenFile(path.Join(at.path, rel), flags, perm)
}

func lstatAt(at folder, rel string, _ bool) (meta, error) {
	info, err := at.root.Lstat(path.Join(at.path, rel))
	if err != nil {
		return meta{}, err
	}
	return metaOf(info), nil
}

func metaOf(info fs.FileInfo) meta {
	return meta{stamp: stamp{mode: info.Mode(), size: info.Size(), mtime: info.ModTime().UnixNano()}, allocated: info.Size(), links: 1}
}

func reflink(_, _ *os.File) bool                { return false }
func preallocate(*os.File, int64) (bool, error) { return false, nil }
func punchHole(*os.File, int64, int64) bool     { return false }
func nextData(_ *os.File, off, _ int64) int64   { return off }
func dataBytes(_ *os.File, size int64) int64    { return size }
func isRemote(*os.File) bool                    { return true }
func advise(*os.File, bool)                     {}
func inCache(*os.File, int64, int64) bool       { return true }
func setDirect(*os.File, bool) bool             { return false }
func forget(*os.File, int64, int64)             {}
func writeBack(*os.File, int64, int64)          {}
func syncAll(f *os.File) error                  { return f.Sync() }
func bootID() string                            { return "" }
func memoryTotal() int64                        { return 0 }

func renameNew(oldPath, newPath string) error {
	if _, err := os.Lstat(newPath); err == nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrExist}
	}
	return os.Rename(oldPath, newPath)
}
