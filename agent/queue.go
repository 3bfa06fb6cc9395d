package agent

import (
	"context"
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A queue holds the jobs that wait, in the order in which they were accepted, and
// those that hold a slot. Its methods are safe for concurrent use.
type queue struct {
	slots int // benchmarks that run at once

	mu      sync.Mutex
	waiting []*jobs.Job                           // guarded by mu, like all that follows
	running map[*jobs.Job]context.CancelCauseFunc // what stops each; nil before it has begun
	closed  bool                                  // no job gets a slot any more

	changes base.Broadcast
}

func newQueue(slots int) *queue {
	return &queue{slots: slots, running: map[*jobs.Job]context.CancelCauseFunc{}}
}

// add appends j to those that wait.
func (q *queue) add(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, j)
	q.changes.Send()
}

// remove takes j out of those that wait, and reports whether it was there.
func (q *queue) remove(j *jobs.Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, j)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.changes.Send()
	return true
}

// take gives a slot to the next job that may run now and returns it, nil if there
// is none. A job that runs no benchmark needs no slot of those that do.
func (q *queue) take() *jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	free := q.slots
	for j := range q.running {
		if j.IsBenchmark() {
			free--
		}
	}
	for i, j := range q.waiting {
		if j.IsBenchmark() && free <= 0 {
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.running[j] = nil
		return j
	}
	return nil
}

// admit gives j a slot although it never waited, as after a restart.
func (q *queue) admit(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = nil
}

// begin says how to stop j, which holds a slot.
func (q *queue) begin(j *jobs.Job, stop context.CancelCauseFunc) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = stop
}

// stop stops j with this cause, if it has begun.
func (q *queue) stop(j *jobs.Job, cause error) {
	q.mu.Lock()
	stop := q.running[j]
	q.mu.Unlock()
	if stop != nil {
		stop(cause)
	}
}

// release takes j's slot back.
func (q *queue) release(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, j)
	q.changes.Send()
}

// holdsSlot reports whether j holds a slot.
func (q *queue) holdsSlot(j *jobs.Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, holds := q.running[j]
	return holds
}

// close gives no slots any more.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changes.Send()
}

// othersRun reports whether a benchmark other than j runs.
func (q *queue) othersRun(j *jobs.Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for other := range q.running {
		if other != j && other.IsBenchmark() {
			return true
		}
	}
	return false
}

// active returns the jobs that hold a slot, in the order of acceptance.
func (q *queue) active() []*jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	active := make([]*jobs.Job, 0, len(q.running))
	for j := range q.running {
		active = append(active, j)
	}
	slices.SortFunc(active, func(a, b *jobs.Job) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return active
}

// line returns the jobs that wait, in their order.
func (q *queue) line() []*jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.waiting)
}

// idle reports whether no job holds a slot.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.running) == 0
}
