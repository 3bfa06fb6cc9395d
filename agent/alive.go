package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// How long a round of a loop may take before the loop counts as stuck. Both work
// on the disk, and housekeeping asks the container engine too, so that on a bad
// day they take long without being stuck.
const (
	turnLimit  = 2 * time.Minute
	roundLimit = 10 * time.Minute
)

// Ready returns a channel that is closed once Run has taken up the jobs of the
// agent before this one, serves the API and takes commands. The server need not
// have answered by then. A Run that returns early because of an error never
// closes it, so wait for Run beside it.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Alive returns nil while Run is running and its loops move on: the heartbeats,
// the one that gives jobs their turn, and housekeeping. Otherwise the error says
// which is stuck, and the agent is of no use until its process is started anew.
//
// A server that is away or takes its time, a benchmark that goes on for days and
// a model that is long in coming are no fault: only what ignores its own deadline
// is. Alive waits for the agent's locks, so that where one is never given back
// it doesn't return either; who watches over an agent takes that for an answer.
func (a *Agent) Alive() error {
	a.queue.idle()
	a.mu.Lock()
	store := a.store
	a.mu.Unlock()
	if store == nil {
		return errors.New("agent: Run is not running")
	}
	now := time.Now()
	return errors.Join(
		stuck("the heartbeats", a.beats.State().Due, now),
		stuck("the turns of jobs", a.turns.limit(), now),
		stuck("housekeeping", a.rounds.limit(), now),
	)
}

func stuck(what string, due, now time.Time) error {
	if due.IsZero() || !now.After(due) {
		return nil
	}
	return fmt.Errorf("agent: %s should have moved on %s ago", what, now.Sub(due).Round(time.Second))
}

// pulse is a loop's word on by when it will have moved on. Its zero value is
// that of a loop that rests.
type pulse struct {
	mu  sync.Mutex
	due time.Time
}

// busy notes that a round begins that takes at most d.
func (p *pulse) busy(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = time.Now().Add(d)
}

// rest notes that the loop waits for something to do, or has ended.
func (p *pulse) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = time.Time{}
}

// limit returns by when the loop moves on, zero if it rests.
func (p *pulse) limit() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due
}
