package execution

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// A GPUAllocator gives benchmarks GPUs that no other one has. Its methods are safe for
// concurrent use, return at once, and call nothing of the queue's.
type GPUAllocator interface {
	// Take gives a job GPUs, and the same ones when it is called again. The error says
	// why there are none now.
	Take(job string) ([]string, error)

	// Hold has a job hold GPUs again after a restart; none stands for all of them.
	Hold(job string, gpus []string)

	Release(job string)
}

// A QueueConfig says which benchmarks run at once.
type QueueConfig struct {
	Slots     int          // how many
	GPUs      GPUAllocator // nil if each benchmark has all GPUs
	Exclusive bool         // whether each one waits until no other runs
	OnePort   bool         // whether all use the ports of one network, so that none with the same engine's port run at once
}

// A Queue holds the jobs that wait, in the order in which they were accepted, and
// those that hold a slot. Its methods are safe for concurrent use.
type Queue struct {
	cfg QueueConfig

	mu      sync.Mutex
	waiting []*jobs.Job                           // guarded by mu, like all that follows
	running map[*jobs.Job]context.CancelCauseFunc // what stops each; nil before it has begun
	blocked map[*jobs.Job]string                  // why jobs in running can't start now
	closed  bool                                  // no job gets a slot any more
	denied  denial                                // why the next benchmark gets no slot

	changes base.Broadcast
}

// Changed returns a channel that is closed by the next change. Take it before you look
// at the queue.
func (q *Queue) Changed() <-chan struct{} { return q.changes.Wait() }

// A denial says why a job that waits gets no slot, though one is free.
type denial struct {
	job    *jobs.Job // nil if there is no such job
	reason string
}

// NewQueue returns an empty queue.
func NewQueue(cfg QueueConfig) *Queue {
	return &Queue{
		cfg: cfg, running: map[*jobs.Job]context.CancelCauseFunc{}, blocked: map[*jobs.Job]string{},
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
	free := map[lane]int{laneGPU: q.cfg.Slots, laneInstall: 1, laneStop: 1}
	for j := range q.running {
		free[laneOf(j)]--
	}
	full := false // nothing that needs GPUs overtakes another
	for i, j := range q.waiting {
		if l := laneOf(j); l != laneNone && free[l] <= 0 {
			continue
		}
		if laneOf(j) == laneGPU {
			if full = full || !q.admitLocked(j); full {
				continue
			}
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.running[j] = nil
		return j
	}
	return nil
}

// admitLocked reports whether j, the next job that needs GPUs, can have a slot, and takes
// a benchmark's GPUs then. q.mu must be held.
func (q *Queue) admitLocked(j *jobs.Job) bool {
	q.denied = denial{}
	port, known := portOf(j)
	for other := range q.running {
		if laneOf(other) != laneGPU {
			continue
		}
		if theirs, _ := portOf(other); q.cfg.OnePort && known && port == theirs {
			q.denied = denial{j, fmt.Sprintf("job %s has port %d of their engine; with policy.container.network: job each has a network of its own", other.ID, port)}
		}
		if q.exclusive(other) || q.exclusive(j) {
			q.denied = denial{j, fmt.Sprintf("it runs apart from others (exclusive), and job %s is running", other.ID)}
			if q.exclusive(other) {
				q.denied.reason = fmt.Sprintf("job %s runs apart from others (exclusive)", other.ID)
			}
		}
	}
	if q.denied.job != nil || q.cfg.GPUs == nil || !j.IsBenchmark() {
		return q.denied.job == nil
	}
	if _, err := q.cfg.GPUs.Take(j.ID); err != nil {
		q.denied = denial{j, err.Error()}
		return false
	}
	return true
}

// exclusive reports whether j runs at the same time as no other job that needs GPUs. So
// does an engine's start: the engine has all GPUs, and no benchmark begins while it runs.
func (q *Queue) exclusive(j *jobs.Job) bool {
	return q.cfg.Exclusive || bool(j.Command.Spec.Exclusive) || j.Command.Type == jobs.TypeStartEngine
}

// Admit gives j a slot although it never waited, as after a restart.
func (q *Queue) Admit(j *jobs.Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running[j] = nil
	if q.cfg.GPUs != nil && j.IsBenchmark() {
		q.cfg.GPUs.Hold(j.ID, j.Record().GPUs)
	}
}

// gpus returns the GPUs that j holds for itself; none if benchmarks have all of them. j
// holds a slot.
func (q *Queue) gpus(j *jobs.Job) []string {
	if q.cfg.GPUs == nil || !j.IsBenchmark() {
		return nil
	}
	set, err := q.cfg.GPUs.Take(j.ID)
	if err != nil {
		return nil
	}
	return set
}

// Look has the jobs that wait looked at again, since something outside of the queue has
// changed.
func (q *Queue) Look() { q.changes.Send() }

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
	if q.cfg.GPUs != nil {
		q.cfg.GPUs.Release(j.ID)
	}
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

// Blocked returns why j, whose turn has come, can't start its benchmark now; empty if
// nothing but the number of benchmarks keeps it from that.
func (q *Queue) Blocked(j *jobs.Job) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.denied.job == j {
		if _, runs := q.running[j]; !runs {
			return q.denied.reason
		}
	}
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
