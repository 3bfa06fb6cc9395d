package storage

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// openDirs are the storage directories that are open, by configured name.
type openDirs struct {
	disk disk
	find func(name string, create bool) (root *os.Root, path string, err error)

	mu     sync.Mutex
	byName map[string]*modelDir // guarded by mu
	closed bool                 // guarded by mu
}

// newOpenDirs returns no directories yet. They will be opened by find; nil means
// findDir.
func newOpenDirs(find func(string, bool) (*os.Root, string, error)) *openDirs {
	if find == nil {
		find = findDir
	}
	return &openDirs{disk: realDisk, find: find, byName: map[string]*modelDir{}}
}

// findDir opens a directory, and makes it if create is set.
func findDir(name string, create bool) (root *os.Root, dir string, err error) {
	if create {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return nil, "", err
		}
	}
	if dir, err = filepath.EvalSymlinks(name); err != nil {
		return nil, "", err
	}
	root, err = os.OpenRoot(dir)
	return root, dir, err
}

// get returns the open directory of that name, or nil.
func (s *openDirs) get(name string) *modelDir {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}

// open opens a directory unless it is open and still the same.
func (s *openDirs) open(name string, create bool) error {
	if d := s.get(name); d != nil && d.isCurrent() {
		return nil
	}
	root, dir, err := s.find(name, create)
	if err != nil {
		return err
	}
	d := newModelDir(name, dir, root, s.disk)
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.byName[name] = d // the one before stays open for those that use it
	}
	s.mu.Unlock()
	if closed {
		return errors.Join(errClosed, d.root.Close())
	}
	return nil
}

// refuse lets no directory be opened any more.
func (s *openDirs) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// isClosed reports whether refuse was called.
func (s *openDirs) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// close closes all directories.
func (s *openDirs) close() (err error) {
	s.mu.Lock()
	all := s.byName
	s.byName = map[string]*modelDir{}
	s.mu.Unlock()
	for _, d := range all {
		err = errors.Join(err, d.root.Close())
	}
	return err
}
