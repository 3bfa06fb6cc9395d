package execution

import (
	"context"
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// A Queue holds the jobs that wait, in the order in which they were accepted, and
// those that hold a slot. Its methods are safe for concurrent use.
type Queue struct {
	slots int // benchmarks that run at once

	mu      sync.Mutex
	waiting []*jobs.Job                           // guarded by mu, like all that follows
	running map[*jobs.Job]context.CancelCauseFunc // what stops each; nil before it has begun
	blocked map[*jobs.Job]string                  // why jobs in running can't start now
	closed  bool                                  // no job gets a slot any more

	changes base.Broadcast
}

// Changed returns a channel that is closed by the next change. Take it before you look
// at the queue.
func (q *Queue) Changed() <-chan struct{} { return q.changes.Wait() }

// NewQueue returns a queue with so many slots for benchmarks.
func NewQueue(slots int) *Queue {
	return &Queue{
		slots: slots, running: map[*jobs.Job]context.CancelCauseFunc{}, blocked: map[*jobs.Job]string{},
	}
}

// Add appends j to those that wait.
func (q *Queue) Add(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, j)
	q.changes.Send()
}

// Remove takes j out of those that wait, and reports whether it was there.
func (q *Queue) Remove(j *jobs.Job) bool {
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

// A lane is a queue of its own within the Queue, which only bounds how many of its jobs
// run at once.
type lane int

const (
	laneGPU     lane = iota // benchmarks, and engines that are started: what needs GPUs
	laneInstall             // one at a time
	laneStop                // likewise: a stop never waits for a benchmark
	laneNone                // all at once
)

func laneOf(j *jobs.Job) lane {
	switch j.Command.Type {
	case jobs.TypeRunTest, jobs.TypeStartEngine:
		return laneGPU
	case jobs.TypeInstallEngine:
		return laneInstall
	case jobs.TypeStopEngine:
		return laneStop
	}
	return laneNone
}

// Take gives a slot to the next job that may run now and returns it, nil if there
// is none.
func (q *Queue) Take() *jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	free := map[lane]int{laneGPU: q.slots, laneInstall: 1, laneStop: 1}
	for j := range q.running {
		free[laneOf(j)]--
	}
	for i, j := range q.waiting {
		if l := laneOf(j); l != laneNone && free[l] <= 0 {
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.running[j] = nil
		return j
	}
	return nil
}

// Admit gives j a slot although it never waited, as after a restart.
func (q *Queue) Admit(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = nil
}

// begin says how to stop j, which holds a slot.
func (q *Queue) begin(j *jobs.Job, stop context.CancelCauseFunc) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = stop
}

// Stop stops j with this cause, if it has begun.
func (q *Queue) Stop(j *jobs.Job, cause error) {
	q.mu.Lock()
	stop := q.running[j]
	q.mu.Unlock()
	if stop != nil {
		stop(cause)
	}
}

// release takes j's slot back.
func (q *Queue) release(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, j)
	q.changes.Send()
}

// HoldsSlot reports whether j holds a slot.
func (q *Queue) HoldsSlot(j *jobs.Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, holds := q.running[j]
	return holds
}

// Close gives no slots any more, and detaches the jobs that hold one and can't start:
// nothing says when they could.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	var stops []context.CancelCauseFunc
	for j := range q.blocked {
		stops = append(stops, q.running[j])
	}
	q.changes.Send()
	q.mu.Unlock()
	for _, stop := range stops {
		stop(runner.ErrDetach)
	}
}

// rearm replaces what stops j, which was stopped before and has not ended. Where no job
// gets a slot any more it is detached at once.
func (q *Queue) rearm(j *jobs.Job, stop context.CancelCauseFunc) {
	q.mu.Lock()
	q.running[j] = stop
	closed := q.closed
	q.mu.Unlock()
	if closed {
		stop(runner.ErrDetach)
	}
}

// block says why j, which has begun, can't start its benchmark now. An empty reason
// says that it can.
func (q *Queue) block(j *jobs.Job, reason string) {
	q.mu.Lock()
	closed, stop := q.closed, q.running[j]
	if reason == "" {
		delete(q.blocked, j)
	} else {
		q.blocked[j] = reason
	}
	q.mu.Unlock()
	if closed && reason != "" {
		stop(runner.ErrDetach)
	}
}

// Blocked returns why j, which holds a slot, can't start its benchmark now; empty if
// nothing keeps it from that.
func (q *Queue) Blocked(j *jobs.Job) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.blocked[j]
}

// benchmarkRuns reports whether a benchmark was handed to the runner and has not ended.
func (q *Queue) benchmarkRuns() bool {
	return slices.ContainsFunc(q.Active(), func(j *jobs.Job) bool {
		return j.IsBenchmark() && j.State() == jobs.StateRunning
	})
}

// Active returns the jobs that hold a slot, in the order of acceptance.
func (q *Queue) Active() []*jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	active := make([]*jobs.Job, 0, len(q.running))
	for j := range q.running {
		active = append(active, j)
	}
	slices.SortFunc(active, func(a, b *jobs.Job) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return active
}

// Waiting returns the jobs that wait, in their order.
func (q *Queue) Waiting() []*jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.waiting)
}

// Len returns how many jobs wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Idle reports whether no job holds a slot.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.running) == 0
}
