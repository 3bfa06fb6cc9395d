package results

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// What a directory of an agent holds. The last two are this package's.
const (
	jobsDir     = "jobs"
	analysisDir = "analysis"
	importedDir = "imported" // below analysisDir
)

// A Store is the runs of one agent, and those that were imported. Its methods are safe
// for concurrent use, also with an agent and with other programs.
type Store struct{ dir string }

// Open returns the runs in dir, which is an agent's Config.Dir. It reads nothing yet.
func Open(dir string) *Store { return &Store{dir: dir} }

// AnalysisDir returns where the Store and package baseline keep files: an index,
// imported runs and what was computed from runs. It may not exist yet.
func (s *Store) AnalysisDir() string { return filepath.Join(s.dir, analysisDir) }

// List returns all runs, the newest first. What is broken of a run is in its Problems.
// The error says that a directory cannot be read; without jobs there is none.
//
// List keeps an index in AnalysisDir, so that the next List reads only what has changed
// since. It does without where it cannot be written.
func (s *Store) List(ctx context.Context) ([]Summary, error) {
	var ix index
	var reading sync.WaitGroup
	reading.Go(func() { ix = s.readIndex() })
	found, err := s.scan()
	reading.Wait()
	if err != nil {
		return nil, err
	}
	var stale []*place
	for i := range found {
		p := &found[i]
		if e, ok := ix.Entries[p.key]; ok && e.stamp == p.stamp {
			p.run, p.known = e.Run, true
		} else {
			stale = append(stale, p)
		}
	}
	now := time.Now()
	err = eachParallel(ctx, stale, func(p *place) { p.run, p.known = s.summary(p), true })
	if len(stale) > 0 || len(ix.Entries) != len(found) {
		s.writeIndex(found, now) // also after ctx ended, so that the next List has less to read
	}
	if err != nil {
		return nil, err
	}
	runs := make([]Summary, 0, len(found))
	for i := range found {
		if p := &found[i]; p.run != nil {
			p.run.key = p.key
			runs = append(runs, *p.run)
		}
	}
	slices.SortStableFunc(runs, func(a, b Summary) int { return b.Time().Compare(a.Time()) })
	return runs, nil
}

// Load returns a run of List with all its figures. The error matches [fs.ErrNotExist]
// if it has been removed since.
func (s *Store) Load(run Summary) (*Run, error) {
	dir, name := filepath.Split(run.key)
	r, err := s.read(dir, name)
	if err != nil {
		return nil, fmt.Errorf("read run %s: %w", run.ID, err)
	}
	r.key = run.key
	return r, nil
}

// LoadAll returns these runs with all their figures, in their order.
func (s *Store) LoadAll(ctx context.Context, runs []Summary) ([]*Run, error) {
	type slot struct {
		sum Summary
		run *Run
		err error
	}
	slots := make([]*slot, len(runs))
	for i, sum := range runs {
		slots[i] = &slot{sum: sum}
	}
	if err := eachParallel(ctx, slots, func(l *slot) { l.run, l.err = s.Load(l.sum) }); err != nil {
		return nil, err
	}
	all := make([]*Run, 0, len(runs))
	for _, l := range slots {
		if l.err != nil {
			return nil, l.err
		}
		all = append(all, l.run)
	}
	return all, nil
}

// A place is where a run may be.
type place struct {
	dir, name string // dir is jobsDir + "/" or importedDir + "/"
	key       string // both
	stamp     stamp
	run       *Summary // nil if there is none
	known     bool     // whether run was read
}

// A stamp changes when what a run was read from changes.
type stamp struct{ Modified, Size int64 }

// scan returns where runs may be.
func (s *Store) scan() ([]place, error) {
	var all []place
	add := func(dir, path string, keep func(fs.DirEntry) (string, bool)) error {
		entries, err := os.ReadDir(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		all = slices.Grow(all, len(entries))
		for _, e := range entries {
			name, ok := keep(e)
			if !ok || strings.HasPrefix(name, ".") {
				continue
			}
			info, err := os.Stat(filepath.Join(path, e.Name())) // somebody may have moved a large job and left a link
			if err != nil {
				continue // removed meanwhile
			}
			all = append(all, place{dir: dir, name: name, key: dir + name, stamp: stamp{info.ModTime().UnixNano(), info.Size()}})
		}
		return nil
	}
	err := add(jobsDir+"/", filepath.Join(s.dir, jobsDir), func(e fs.DirEntry) (string, bool) {
		return e.Name(), e.IsDir() || e.Type()&fs.ModeSymlink != 0
	})
	if err != nil {
		return nil, err
	}
	err = add(importedDir+"/", filepath.Join(s.AnalysisDir(), importedDir), func(e fs.DirEntry) (string, bool) {
		return strings.CutSuffix(e.Name(), recordSuffix)
	})
	return all, err
}

// read reads the run of a place.
func (s *Store) read(dir, name string) (*Run, error) {
	if dir == importedDir+"/" {
		return readRecord(filepath.Join(s.AnalysisDir(), importedDir, name))
	}
	return Read(filepath.Join(s.dir, jobsDir, name))
}

// summary reads the summary of a place, nil if there is no run.
func (s *Store) summary(p *place) *Summary {
	r, err := s.read(p.dir, p.name)
	if err != nil {
		return nil
	}
	return &r.Summary
}

// eachParallel calls do with each of list, several at a time. The error is the cause
// of ctx's end.
func eachParallel[T any](ctx context.Context, list []T, do func(T)) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(list) {
					return
				}
				do(list[i])
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// WriteFile puts a file of the agent's user at name below AnalysisDir in one step, also
// for root: an agent with a user of its own can still replace it.
func (s *Store) WriteFile(name string, text []byte) error {
	path := filepath.Join(s.AnalysisDir(), name)
	if err := s.makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	if err := base.WriteFile(path, text); err != nil {
		return err
	}
	return ownLike(s.dir, path)
}

// makeDirs makes dir and what is missing above it, up to the Store's directory.
func (s *Store) makeDirs(dir string) error {
	if base.Exists(dir) || dir == s.dir {
		return nil
	}
	if err := s.makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return ownLike(s.dir, dir)
}

// ownLike gives path the owner of the file like, if the program is root.
func ownLike(like, path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := owner(like)
	if err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}
