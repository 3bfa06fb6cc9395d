package jobs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// newPrefix is that of the directory of a job that is being written, or removed.
// A job's id never begins with a dot.
const newPrefix = ".new-"

// ErrExists is matched by the error of a Create for an id that has a job.
var ErrExists = errors.New("there is a job of this id already")

// A Store is the directory that holds the jobs. Its methods are safe for
// concurrent use, except that Sweep and Load come before all others.
type Store struct {
	dir     string     // absolute, without symbolic links
	changed func(*Job) // called after each change of a job's state

	mu      sync.Mutex
	removed map[string]bool // ids of jobs that were removed. guarded by mu
}

// Open opens the store in dir, which it makes if it isn't there. changed, if not nil,
// is called after each change of a job's state, in the goroutine that made it. It
// returns at once.
func Open(dir string, changed func(*Job)) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The runner hands out paths in here to other programs, which resolve them
	// elsewhere: they must not go through symbolic links.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, changed: changed, removed: map[string]bool{}}
	return s, s.readRemoved()
}

// Dir returns the store's directory, absolute and without symbolic links.
func (s *Store) Dir() string { return s.dir }

// Sweep removes what a crash left half written or half removed.
func (s *Store) Sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Create makes a job of c. Its directory appears complete under the command's id, so
// that a crash leaves either all of the job or none. The error matches [ErrExists]
// if there is such a job.
//
// If c makes no sense, failed says why. Such a job has failed on disk from the
// start, so that a crash runs nothing of it. In memory it is accepted, for its log
// and report to be made.
func (s *Store) Create(c Command, source Source, failed *Outcome) (*Job, error) {
	target := filepath.Join(s.dir, c.ID)
	if base.Exists(target) {
		return nil, ErrExists
	}
	tmp := filepath.Join(s.dir, newPrefix+c.ID)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	file := commandFile{Version: version, Command: c, Source: source, AcceptedAt: time.Now()}
	written := newRecord(file)
	if failed != nil {
		written.State, written.EndedAt, written.Outcome = StateFailed, written.ChangedAt, failed
	}
	err := errors.Join(
		writeJSON(filepath.Join(tmp, commandFileName), file),
		writeJSON(filepath.Join(tmp, recordFileName), written.bounded()),
		os.Mkdir(filepath.Join(tmp, resultsDirName), 0o700),
	)
	if err == nil {
		err = os.Rename(tmp, target)
	}
	if err == nil {
		err = base.SyncDir(s.dir)
	}
	if err != nil {
		_ = os.RemoveAll(tmp) // swept at the next start otherwise
		return nil, err
	}
	j := newJob(target, file, newRecord(file))
	j.changed = s.changed
	return j, nil
}

// Load reads all jobs, in the order in which they were accepted. A job that cannot
// be read is repaired, so that it stops no other. ignored says which directories
// are not jobs.
func (s *Store) Load() (jobs []*Job, ignored []error, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		var j *Job
		err := s.isDir(e)
		if err == nil {
			j, err = s.read(e.Name())
		}
		if err != nil {
			ignored = append(ignored, fmt.Errorf("%s: %w", filepath.Join(s.dir, e.Name()), err))
			continue
		}
		j.Recovered, j.changed = true, s.changed
		jobs = append(jobs, j)
	}
	slices.SortStableFunc(jobs, func(a, b *Job) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return jobs, ignored, nil
}

// isDir returns an error unless e is a directory, or a link to one: somebody may
// have moved a large job to another disk.
func (s *Store) isDir(e fs.DirEntry) error {
	if e.IsDir() {
		return nil
	}
	info, err := os.Stat(filepath.Join(s.dir, e.Name()))
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	return err
}

// Remove deletes a job's directory, and remembers its id, so that the command is
// never run again. The directory first disappears by a rename, so that a crash
// leaves no half of it.
func (s *Store) Remove(j *Job) error {
	if err := s.remember(j.ID); err != nil {
		return err
	}
	hidden := filepath.Join(s.dir, newPrefix+j.ID)
	if err := os.Rename(j.Dir, hidden); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(hidden)
}

// removedFile lists the ids of jobs that were removed, one a line, the latest last.
const removedFile = ".removed"

// maxRemoved is how many ids of removed jobs are remembered.
const maxRemoved = 100_000

// readRemoved reads the ids of the jobs that were removed.
func (s *Store) readRemoved() error {
	text, err := os.ReadFile(filepath.Join(s.dir, removedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ids := strings.Fields(string(text))
	if len(ids) > 2*maxRemoved {
		ids = ids[len(ids)-maxRemoved:]
		err := base.WriteFile(filepath.Join(s.dir, removedFile), []byte(strings.Join(ids, "\n")+"\n"))
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		s.removed[id] = true
	}
	return nil
}

// remember records that the job with this id is removed.
func (s *Store) remember(id string) error {
	f, err := os.OpenFile(filepath.Join(s.dir, removedFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(id + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed[id] = true
	return nil
}

// Removed reports whether there was a job of this id that is removed by now.
func (s *Store) Removed(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removed[id]
}
