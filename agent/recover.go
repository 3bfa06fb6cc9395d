package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/storage"
)

// recoverJobs reads the jobs of the agent before this one and goes on with each
// from the state in which it was left; the table in the package comment says
// how.
func (a *Agent) recoverJobs() error {
	jobs, damaged, err := a.store.load()
	if err != nil {
		return err
	}
	var resumed, waiting, undelivered int
	for _, j := range jobs {
		// What the command asks for follows from what was written, so it was
		// checked when it was accepted; a stricter agent refuses it now.
		spec, fault := parseCommand(j.order.Command, false)
		j.spec = spec
		j.recovered = true
		a.mu.Lock()
		a.jobs[j.id] = j
		a.mu.Unlock()
		state := j.state()
		switch {
		case state.Ended():
		case state == StateAccepted && fault != nil:
			a.concludeWaiting(j, failure(fault))
		case state == StateAccepted:
			a.queue.add(j)
			waiting++
		default:
			j.resumed = state == StateRunning
			resumed++
			// It had its turn, so it gets it again before all that wait, however
			// many run at once.
			a.queue.admit(j)
			a.begin(j)
		}
		if a.settled(j) {
			j.done.Store(true)
		} else {
			undelivered++
			a.dispatchCourier(j)
		}
	}
	for _, d := range damaged {
		a.reportDamaged(d)
	}
	if len(jobs) > 0 || len(damaged) > 0 {
		a.log.Info("jobs found", "resumed", resumed, "waiting", waiting, "undelivered", undelivered, "damaged", len(damaged))
	}
	a.lookup.Store(true)
	a.releaseStale()
	return nil
}

// releaseStale gives up the leases of jobs that need none any more, beside
// everything else: a storage that cannot answer holds nothing up. Holders that
// are none of this agent's jobs are somebody else's affair.
func (a *Agent) releaseStale() {
	keeper, ok := a.cfg.Storage.(storage.LeaseKeeper)
	if !ok {
		return
	}
	live := map[string]bool{}
	for _, j := range a.allJobs() {
		live[j.id] = !j.state().Ended()
	}
	jobs := a.store.dir
	a.background.Go(func() {
		ctx, cancel := context.WithTimeout(a.drainContext(), time.Minute)
		defer cancel()
		// A job that is accepted meanwhile is none of these, so it is asked about
		// as it is now.
		released, err := keeper.ReleaseExcept(ctx, func(holder string) bool {
			dir, id := filepath.Split(holder)
			return filepath.Clean(dir) != jobs || live[id] || a.isLive(id)
		})
		if err != nil {
			a.log.Warn("old claims on models not given up", "err", err)
		}
		for _, holder := range released {
			a.log.Info("claim on a model given up whose job has ended", "job", printable(filepath.Base(holder)))
		}
	})
}

// isLive reports whether there is a job of that name that has not ended.
func (a *Agent) isLive(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.jobs[id]
	return a.reserved[id] || j != nil && !j.state().Ended()
}

func (a *Agent) drainContext() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drainCtx
}

// reportDamaged makes known that a job's directory could not be read. Where
// its command could be, the server hears that the job failed.
func (a *Agent) reportDamaged(d damagedJob) {
	a.log.Error("job could not be read and was set aside", "job", d.id, "dir", d.path, "err", d.reason)
	a.warn(fmt.Sprintf("Job %s could not be read and was set aside in %s: %v", d.id, d.path, d.reason))
	if d.order == nil {
		return
	}
	j, err := a.store.create(d.id, *d.order, newRecord(*d.order))
	if err != nil {
		a.log.Error("damaged job not reported", "job", d.id, "err", err)
		return
	}
	j.spec, _ = parseCommand(d.order.Command, false)
	a.mu.Lock()
	a.jobs[j.id] = j
	a.mu.Unlock()
	a.concludeWaiting(j, failure(&damagedError{path: d.path}))
	a.dispatchCourier(j)
}

// damagedError is why a job ends whose directory could not be read.
type damagedError struct{ path string }

func (e *damagedError) Error() string {
	return "the agent's record of this job was damaged; what is left of it was set aside on the machine"
}
func (e *damagedError) Class() string { return "damaged" }
func (e *damagedError) Fix() string   { return "look into " + e.path }
