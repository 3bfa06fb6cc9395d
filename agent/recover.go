package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/storage"
)

// recoverJobs reads the jobs of the agent before this one, and returns those
// that had their turn, which continueJobs is to give them again.
func (a *Agent) recoverJobs() ([]*job, error) {
	jobs, ignored, err := a.store.load()
	if err != nil {
		return nil, err
	}
	for _, err := range ignored {
		a.log.Warn("directory is a copy of a job and is ignored; move it out of the jobs directory", "err", err)
	}
	var begun []*job
	var waiting, undelivered, damaged int
	for _, j := range jobs {
		// What the command asks for follows from what was written, so it was
		// checked when it was accepted; a stricter agent refuses it now.
		spec, fault := parseCommand(j.order.Command, false)
		j.spec = spec
		j.recovered = true
		if j.damage != nil {
			damaged++
			a.reportDamaged(j)
		}
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
			// It had its turn, so it gets it again before all that wait, however
			// many run at once.
			a.queue.admit(j)
			begun = append(begun, j)
		}
		if a.settled(j) {
			j.done.Store(true)
		} else {
			undelivered++
			a.dispatchCourier(j)
		}
	}
	if len(jobs) > 0 {
		a.log.Info("jobs found", "resumed", len(begun), "waiting", waiting, "undelivered", undelivered, "damaged", damaged)
	}
	a.lookup.Store(true)
	return begun, nil
}

// continueJobs gives jobs their turn again, each from the state in which it was
// left; the table in the package comment says how. Jobs that are to be abandoned
// come first, and nothing else begins until their benchmarks have ended: it
// would share the GPUs with them. It returns early when ctx is done.
func (a *Agent) continueJobs(ctx context.Context, jobs []*job) {
	var lost, rest []*job
	for _, j := range jobs {
		if j.snapshot().abandoned() {
			lost = append(lost, j)
		} else {
			rest = append(rest, j)
		}
	}
	var over []<-chan struct{}
	for _, j := range lost {
		over = append(over, a.begin(j))
	}
	for _, ended := range over {
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
	for _, j := range rest {
		a.begin(j)
	}
	a.releaseStale()
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

// reportDamaged says that files of a job could not be read.
func (a *Agent) reportDamaged(j *job) {
	a.log.Error("job could not be read", "job", j.id, "dir", j.dir, "err", j.damage)
	a.warn(fmt.Sprintf("Job %s could not be read (%v); what could not be read is set aside in %s", j.id, j.damage, j.dir))
}
