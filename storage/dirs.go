package storage

import (
	"errors"
	"os"
	"sync"
)

// openDirs are the storage directories that are open, by configured name.
type openDirs struct {
	disk disk

	mu     sync.Mutex
	byName map[string]*modelDir // guarded by mu
	closed bool                 // guarded by mu
}

func newOpenDirs() *openDirs {
	return &openDirs{disk: realDisk, byName: map[string]*modelDir{}}
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
	if create {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	d, err := openModelDir(name, s.disk)
	if err != nil {
		return err
	}
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
