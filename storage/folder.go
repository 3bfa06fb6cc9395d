package storage

import (
	"errors"
	"io/fs"
	"os"
	"path"
)

// A folder is an open directory at path below root. What is opened in it is
// found from there, so that a share is asked for one name and not for each
// directory on the way to it.
type folder struct {
	root *os.Root
	dir  *os.File
	path string
}

// openRoot opens a directory that nothing opened through it leads out of.
func openRoot(name string) (folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return folder{}, err
	}
	dir, err := root.Open(".")
	if err != nil {
		return folder{}, errors.Join(err, root.Close())
	}
	return folder{root: root, dir: dir, path: "."}, nil
}

// open opens a file below f by its path from there, which must have no links in
// it.
func (f folder) open(rel string, flags int, perm fs.FileMode) (*os.File, error) {
	return openBeneath(f, rel, flags, perm)
}

// enter opens a directory below f only to open other files in it.
func (f folder) enter(rel string) (folder, error) {
	dir, err := openBeneath(f, rel, openPath, 0)
	if err != nil {
		return folder{}, err
	}
	return folder{root: f.root, dir: dir, path: path.Join(f.path, rel)}, nil
}

// close closes a folder that was entered.
func (f folder) close() error {
	if f.dir == nil {
		return nil
	}
	return f.dir.Close()
}

// closeRoot closes what openRoot opened.
func (f folder) closeRoot() error { return errors.Join(f.dir.Close(), f.root.Close()) }
