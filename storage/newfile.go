package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A newFile is a durable file that has no final name yet. It is written outside of
// the storage's lock, so that a slow disk delays only its writer, and gets its name
// under the lock.
type newFile struct {
	*os.File  // locked (flock) until install or discard, so that no agent removes it
	installed bool
}

// A tmpDir is the directory of new files.
type tmpDir struct {
	dir  string
	sync func(*os.File) error // fsync
}

// create writes and fsyncs a new file. It makes the directory if an older agent
// set up the storage directory.
func (t tmpDir) create(ctx context.Context, write func(io.Writer) error) (*newFile, error) {
	if err := os.Mkdir(t.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, unwritable(t.dir, "written", err)
	}
	file, err := waitLock(ctx, filepath.Join(t.dir, rand.Text()), nil)
	if err != nil {
		if ctx.Err() == nil {
			err = unwritable(t.dir, "written", err)
		}
		return nil, err
	}
	f := &newFile{File: file}
	err = write(file)
	if err == nil {
		err = file.Chmod(0o644) // for agents of other users, whatever the umask
	}
	if err == nil {
		err = t.sync(file)
	}
	if err != nil {
		return nil, errors.Join(err, f.discard())
	}
	return f, nil
}

// install gives the file its final name and closes it.
func (f *newFile) install(name string) error {
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	f.installed = true
	return f.Close()
}

// discard removes the file unless it was installed. A nil file has nothing to
// discard.
func (f *newFile) discard() error {
	if f == nil || f.installed {
		return nil
	}
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// clean removes files that a crash left, which no process has locked.
func (t tmpDir) clean() error {
	names, err := readDir(t.dir)
	for _, e := range names {
		name := filepath.Join(t.dir, e.Name())
		file, openErr := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(openErr, fs.ErrNotExist) {
			continue
		}
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		free, lockErr := tryLock(file)
		if free && isNamed(file, name) {
			lockErr = os.Remove(name)
		}
		err = errors.Join(err, lockErr, file.Close())
	}
	return err
}

// removeTorn removes what a crash of an older agent left of files that it was
// writing. Those write in copies and leases, under the lock.
func (d *modelDir) removeTorn(ctx context.Context) error {
	var torn []string
	for _, dir := range []string{d.copies.dir, d.leases.dir} {
		names, err := readDir(dir)
		if err != nil {
			return err
		}
		for _, e := range names {
			if strings.HasPrefix(e.Name(), ".") && !strings.Contains(e.Name(), ".synced") {
				torn = append(torn, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(torn) == 0 {
		return nil
	}
	return d.locked(ctx, func() error {
		for _, name := range torn {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// readDir returns what is in a directory, nothing if there is none.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
