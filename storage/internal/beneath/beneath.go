// Package beneath follows symbolic links and opens files below a directory, and
// never leaves it.
//
// A path is relative to a root directory and clean (see [IsClean]). [Resolve]
// follows its links and returns a path without any. [Folder] opens such a path
// through the kernel (openat2(2)) or [os.Root], so that a link made after Resolve
// leads nowhere either.
package beneath

import (
	"errors"
	"io/fs"
	"os"
	"path"
)

// A Folder is an open directory at Path below Root. Files in it are opened from
// there, so that a network file system looks up one name and not each directory
// on the way. The zero Folder is closed.
type Folder struct {
	Root *os.Root
	Dir  *os.File
	Path string // "." for the root itself

	top bool // Close closes Root, too
}

// Open opens the root directory at name.
func Open(name string) (Folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return Folder{}, err
	}
	dir, err := root.Open(".")
	if err != nil {
		return Folder{}, errors.Join(err, root.Close())
	}
	return Folder{Root: root, Dir: dir, Path: ".", top: true}, nil
}

// OpenFile opens a file below f. rel is its path from f and must have no links
// in it.
func (f Folder) OpenFile(rel string, flags int, perm fs.FileMode) (*os.File, error) {
	return open(f, rel, flags, perm)
}

// Enter opens a directory below f, only to open files in it. rel must have no
// links in it.
func (f Folder) Enter(rel string) (Folder, error) {
	dir, err := open(f, rel, enterFlags, 0)
	if err != nil {
		return Folder{}, err
	}
	return Folder{Root: f.Root, Dir: dir, Path: path.Join(f.Path, rel)}, nil
}

// Close closes f, and its root if [Open] returned f.
func (f Folder) Close() error {
	if f.Dir == nil {
		return nil
	}
	err := f.Dir.Close()
	if f.top {
		err = errors.Join(err, f.Root.Close())
	}
	return err
}
