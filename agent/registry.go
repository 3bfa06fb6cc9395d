package agent

import (
	"errors"
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
)

// A registry knows all jobs, and who may use their files: once Run has ended they
// belong to the next agent, which may run in the same program. Its methods are safe
// for concurrent use and wait for no disk.
type registry struct {
	mu        sync.Mutex
	store     *jobs.Store          // nil while Run isn't running. guarded by mu, like all that follows
	stopped   chan struct{}        // closed when users of the files are to return
	jobs      map[string]*jobs.Job // by id; kept after Run
	reserved  map[string]bool      // ids of jobs that are being written
	accepting bool                 // whether commands are accepted

	users   sync.WaitGroup // of the files; grows only while there is a store
	writing sync.WaitGroup // commands that are being written; grows only while accepting
}

func newRegistry() *registry {
	return &registry{jobs: map[string]*jobs.Job{}, reserved: map[string]bool{}}
}

// open makes the files in store available.
func (r *registry) open(store *jobs.Store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store, r.stopped = store, make(chan struct{})
}

// stopUsers asks users of the files to return.
func (r *registry) stopUsers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.stopped)
}

// close waits until nobody uses the files, and lets nobody use them after that.
func (r *registry) close() {
	r.mu.Lock()
	r.store = nil
	r.mu.Unlock()
	r.users.Wait()
}

// acquire lets the caller use the jobs' files until it calls release, which it does
// soon after stopped is closed. The error matches ErrNotAccepting while Run isn't
// running.
func (r *registry) acquire() (stopped <-chan struct{}, release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		return nil, nil, ErrNotAccepting
	}
	r.users.Add(1)
	return r.stopped, r.users.Done, nil
}

// isOpen reports whether Run is running.
func (r *registry) isOpen() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store != nil
}

func (r *registry) setAccepting(accepting bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepting = accepting
}

func (r *registry) isAccepting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepting
}

// create makes a job of c. The error matches ErrNotAccepting or ErrDuplicate, or is
// that of the disk.
func (r *registry) create(c jobs.Command, source jobs.Source, failed *jobs.Outcome) (*jobs.Job, error) {
	store, err := r.reserve(c.ID)
	if err != nil {
		return nil, err
	}
	defer r.writing.Done()
	j, err := store.Create(c, source, failed)
	r.mu.Lock()
	delete(r.reserved, c.ID)
	if err == nil {
		r.jobs[c.ID] = j
	}
	r.mu.Unlock()
	if errors.Is(err, jobs.ErrExists) {
		return nil, ErrDuplicate
	}
	return j, err
}

// reserve claims id for a job that is about to be written, and makes a stop wait
// for that. The caller calls r.writing.Done.
func (r *registry) reserve(id string) (*jobs.Store, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.accepting {
		return nil, ErrNotAccepting
	}
	if r.reserved[id] || r.jobs[id] != nil || r.store.Removed(id) {
		return nil, ErrDuplicate
	}
	r.reserved[id] = true
	r.writing.Add(1)
	return r.store, nil
}

// add adds a job that was read from disk.
func (r *registry) add(j *jobs.Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[j.ID] = j
}

// remove removes a job from disk and memory. Its id is remembered on disk, so that
// the command is never run again.
func (r *registry) remove(j *jobs.Job) error {
	r.mu.Lock()
	store := r.store
	r.mu.Unlock()
	if err := store.Remove(j); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, j.ID)
	return nil
}

// all returns all jobs, in the order in which they were accepted.
func (r *registry) all() []*jobs.Job {
	r.mu.Lock()
	all := make([]*jobs.Job, 0, len(r.jobs))
	for _, j := range r.jobs {
		all = append(all, j)
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *jobs.Job) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return all
}

// find returns the job of the command or test with the given id, nil if there is
// none. Of several jobs of one test it prefers one that can still be stopped.
func (r *registry) find(id string) *jobs.Job {
	if id == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if safe, _ := jobs.SafeID(id); r.jobs[safe] != nil {
		return r.jobs[safe]
	}
	var found *jobs.Job
	for _, j := range r.jobs {
		if j.TestID() == id && (found == nil || found.State().Ended()) {
			found = j
		}
	}
	return found
}

// knows reports whether there is or was a job with this id.
func (r *registry) knows(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.jobs[id] != nil || r.reserved[id] || r.store != nil && r.store.Removed(id)
}

// isLive reports whether there is a job with this id that has not ended.
func (r *registry) isLive(id string) bool {
	r.mu.Lock()
	j, reserved := r.jobs[id], r.reserved[id]
	r.mu.Unlock()
	return reserved || j != nil && !j.State().Ended()
}
