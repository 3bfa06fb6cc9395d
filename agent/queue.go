package agent

import (
	"slices"
	"sync"
)

// queue holds the jobs that wait for their turn, in the order in which they
// were accepted, and those that have it.
type queue struct {
	most int // benchmarks that run at once

	mu      sync.Mutex
	waiting []*job
	running map[*job]bool
	closed  bool // no job gets its turn any more
	changes broadcast
}

func newQueue(most int) *queue {
	return &queue{most: most, running: map[*job]bool{}}
}

// add puts j at the end of the line.
func (q *queue) add(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, j)
	q.changes.send()
}

// remove takes j out of the line and reports whether it stood there.
func (q *queue) remove(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, j)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.changes.send()
	return true
}

// take returns the next job that may run now and gives it its turn, nil if
// there is none. A job that runs no benchmark needs no turn among those that
// do.
func (q *queue) take() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	benchmarks := 0
	for j := range q.running {
		if j.spec.Type == TypeRunTest {
			benchmarks++
		}
	}
	for i, j := range q.waiting {
		if j.spec.Type == TypeRunTest && benchmarks >= q.most {
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.running[j] = true
		return j
	}
	return nil
}

// admit gives j its turn without a place in the line, as after a restart.
func (q *queue) admit(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = true
}

// done gives back j's turn.
func (q *queue) done(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, j)
	q.changes.send()
}

// close lets no job have its turn any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changes.send()
}

// others reports whether a benchmark other than j runs.
func (q *queue) others(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for r := range q.running {
		if r != j && r.spec.Type == TypeRunTest {
			return true
		}
	}
	return false
}

// active returns the jobs that have their turn, in the order of acceptance.
func (q *queue) active() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := make([]*job, 0, len(q.running))
	for j := range q.running {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *job) int { return a.order.AcceptedAt.Compare(b.order.AcceptedAt) })
	return jobs
}

// line returns the jobs that wait, in their order.
func (q *queue) line() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.waiting)
}

// idle reports whether no job has its turn.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.running) == 0
}
