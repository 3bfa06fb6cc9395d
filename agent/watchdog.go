package agent

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// How long a round of a loop may take before the loop counts as stuck. Both use the
// disk, and maintenance asks the container engine too, so that on a bad day they
// take long without being stuck.
const (
	scheduleLimit    = 2 * time.Minute
	maintenanceLimit = 10 * time.Minute
)

// A watchdog knows when the current round of a loop should have ended. Its zero
// value is that of a loop that waits.
type watchdog struct{ due atomic.Pointer[time.Time] }

// start says that a round begins that takes at most d.
func (w *watchdog) start(d time.Duration) {
	due := time.Now().Add(d)
	w.due.Store(&due)
}

// rest says that the loop waits for something to do, or has ended.
func (w *watchdog) rest() { w.due.Store(nil) }

// check returns an error if the loop is stuck.
func (w *watchdog) check(loop string, now time.Time) error {
	due := w.due.Load()
	if due == nil {
		return nil
	}
	return overdue(loop, *due, now)
}

func overdue(loop string, due, now time.Time) error {
	if due.IsZero() || !now.After(due) {
		return nil
	}
	return fmt.Errorf("agent: %s should have continued %s ago", loop, now.Sub(due).Round(time.Second))
}

// Ready returns a channel that is closed once Run has read the jobs of the agent
// before this one, serves the API and accepts commands. The server need not have
// answered by then. A Run that returns early because of an error never closes it:
// also wait for Run.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Alive returns nil while Run is running and its loops make progress: heartbeats,
// scheduling and maintenance. Otherwise the error says which one is stuck, and only
// a restart of the process helps.
//
// A server that is away or slow, a benchmark that runs for days and a model that
// takes long to copy don't count: only a call that ignores its own deadline does.
func (a *Agent) Alive() error {
	if !a.registry.isOpen() {
		return errors.New("agent: Run is not running")
	}
	now := time.Now()
	return errors.Join(
		overdue("the heartbeat loop", a.beats.State().Due, now),
		a.scheduling.check("scheduling", now),
		a.maintainer.watchdog.check("maintenance", now),
	)
}
