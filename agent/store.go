package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// The files of a job's directory; see the package comment.
const (
	orderFile      = "command.json"
	recordFile     = "job.json"
	logFile        = "log"
	resultsDir     = "results"
	resultFileName = "result.json"
	deliveryFile   = "delivery"
)

// newPrefix is that of the directory of a job that is being written, or removed.
// A job's id never begins with a dot.
const newPrefix = ".new-"

// maxRecord is the longest file of a job that is read into memory at once, and
// so the longest that is written, in bytes.
const maxRecord = 4 << 20

// errKnown says that there is a job of that id already.
var errKnown = errors.New("command is known already")

// store is the directory that holds the jobs.
type store struct {
	dir string

	mu   sync.Mutex
	gone map[string]bool // ids of jobs that were removed
}

// openStore makes dir if it isn't there.
func openStore(dir string) (*store, error) {
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
	s := &store{dir: dir, gone: map[string]bool{}}
	return s, s.readGone()
}

// sweep removes what a crash left half written or half removed.
func (s *store) sweep() error {
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

// create writes a new job. The directory appears whole under its name, so that
// a crash leaves either all of the job or none. The error matches errKnown if
// there is such a job.
func (s *store) create(id string, o order, rec record) (*job, error) {
	target := filepath.Join(s.dir, id)
	if _, err := os.Lstat(target); err == nil {
		return nil, errKnown
	}
	tmp := filepath.Join(s.dir, newPrefix+id)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, err
	}
	err := errors.Join(
		writeJSON(filepath.Join(tmp, orderFile), o),
		writeJSON(filepath.Join(tmp, recordFile), rec),
		os.Mkdir(filepath.Join(tmp, resultsDir), 0o700),
	)
	if err == nil {
		err = os.Rename(tmp, target)
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		_ = os.RemoveAll(tmp) // swept at the next start otherwise
		return nil, err
	}
	return newJob(target, o, rec), nil
}

// load reads all jobs, in the order in which they were accepted. A job that
// cannot be read is repaired, so that it stops no other. ignored says which
// directories are no jobs.
func (s *store) load() (jobs []*job, ignored []error, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.IsDir() {
			continue
		}
		j, err := s.read(e.Name())
		if err != nil {
			ignored = append(ignored, fmt.Errorf("%s: %w", filepath.Join(s.dir, e.Name()), err))
			continue
		}
		jobs = append(jobs, j)
	}
	slices.SortStableFunc(jobs, func(a, b *job) int { return a.order.AcceptedAt.Compare(b.order.AcceptedAt) })
	return jobs, ignored, nil
}

// remove deletes a job's directory, and remembers its id, so that the command is
// never run again. It first takes the job out of sight by a rename, so that a
// crash leaves no half of it.
func (s *store) remove(j *job) error {
	if err := s.remember(j.id); err != nil {
		return err
	}
	gone := filepath.Join(s.dir, newPrefix+j.id)
	if err := os.Rename(j.dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// goneFile lists the ids of jobs that were removed, one a line, the latest last.
const goneFile = ".removed"

// maxGone is how many ids of removed jobs are remembered.
const maxGone = 100_000

// readGone reads the ids of the jobs that were removed.
func (s *store) readGone() error {
	text, err := os.ReadFile(filepath.Join(s.dir, goneFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ids := strings.Fields(string(text))
	if len(ids) > 2*maxGone {
		ids = ids[len(ids)-maxGone:]
		err := renameio.WriteFile(filepath.Join(s.dir, goneFile), []byte(strings.Join(ids, "\n")+"\n"), 0o600)
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		s.gone[id] = true
	}
	return nil
}

// remember notes that the job with this id is removed.
func (s *store) remember(id string) error {
	f, err := os.OpenFile(filepath.Join(s.dir, goneFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(id + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[id] = true
	return nil
}

// ended reports whether there was a job of this id that is removed by now.
func (s *store) ended(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone[id]
}

// writeJSON writes v to path, which holds either what it held before or all of
// the new text, also after a power cut. What readJSON would not read back is an
// error.
func writeJSON(path string, v any) error {
	text, err := encodeJSON(v)
	if err != nil {
		return err
	}
	if len(text) > maxRecord {
		return fmt.Errorf("%s would have %d bytes, at most %d are read back", filepath.Base(path), len(text), maxRecord)
	}
	return writeFile(path, text)
}

// encodeJSON returns v as JSON on one line. Texts keep their characters: written
// as \u003c, a text of "<" would be six times as long.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// writeFile puts a durable file with this text at path in one step.
func writeFile(path string, text []byte) error {
	// Without a directory renameio looks for one by making and renaming files in
	// several, which takes longer than the write.
	return renameio.WriteFile(path, text, 0o600, renameio.IgnoreUmask(), renameio.WithTempDir(filepath.Dir(path)))
}

// readJSON reads the JSON object in path into v.
func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no plain file", filepath.Base(path))
	}
	if info.Size() > maxRecord {
		return fmt.Errorf("%s has %d bytes: %w", filepath.Base(path), info.Size(), errTooLong)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// syncDir makes the names in dir last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
