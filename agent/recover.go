package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/storage"
)

// recoverJobs reads the jobs of the agent before this one, and returns those that
// held a slot, for Executor.ResumeAll.
func (a *Agent) recoverJobs(store *jobs.Store) (begun []*jobs.Job, err error) {
	all, ignored, err := store.Load()
	if err != nil {
		return nil, err
	}
	for _, err := range ignored {
		a.cfg.Logger.Warn("ignored in the jobs directory, since it is not a job; move it elsewhere", "err", err)
	}
	var waiting, undelivered, damaged int
	for _, j := range all {
		if j.Damage != nil {
			damaged++
			a.reportDamaged(j)
		}
		a.registry.add(j)
		a.executor.Recover(j)
		switch state := j.State(); {
		case state.Ended():
		case state == jobs.StateAccepted:
			// It was checked when it was accepted; a stricter agent refuses it now.
			if _, fault := checkCommand(j.Command, false); fault != nil {
				a.executor.FinalizeWaiting(j, execution.Failed(fault))
				break
			}
			a.queue.Add(j)
			waiting++
		default:
			// It gets its slot back before all that wait, however many run at once.
			a.queue.Admit(j)
			begun = append(begun, j)
		}
		if a.outbox.Recover(j) {
			undelivered++
		}
	}
	a.reviewPolicy(all)
	if len(all) > 0 {
		a.cfg.Logger.Info("jobs found", "resumed", len(begun), "waiting", waiting, "undelivered", undelivered, "damaged", damaged)
	}
	a.reconciler.lookUpSoon()
	return begun, nil
}

// reportDamaged says that files of a job could not be read.
func (a *Agent) reportDamaged(j *jobs.Job) {
	a.cfg.Logger.Error("job could not be read", "job", j.ID, "dir", j.Dir, "err", j.Damage)
	a.notices.Warn(fmt.Sprintf("Job %s could not be read (%v); what could not be read is set aside in %s", j.ID, j.Damage, j.Dir))
}

// releaseStaleLeases releases the leases of jobs that need none any more. It runs
// concurrently with everything else: a storage that cannot answer holds nothing up.
// Holders that are not jobs of this agent are none of its business.
func (a *Agent) releaseStaleLeases(ctx context.Context) {
	keeper, ok := storage.As[storage.LeaseKeeper](a.cfg.Storage)
	if !ok {
		return
	}
	_, release, err := a.registry.acquire()
	if err != nil {
		return
	}
	defer release()
	dir := filepath.Join(a.cfg.Dir, "jobs")
	live := map[string]bool{}
	for _, j := range a.registry.all() {
		live[j.ID] = !j.State().Ended()
		dir = filepath.Dir(j.Dir)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// A job that is accepted meanwhile is not in live, so the registry is asked, too.
	released, err := keeper.ReleaseExcept(ctx, func(holder string) bool {
		parent, id := filepath.Split(holder)
		return filepath.Clean(parent) != dir || live[id] || a.registry.isLive(id)
	})
	if err != nil {
		a.cfg.Logger.Warn("stale leases not released", "err", err)
	}
	for _, holder := range released {
		a.cfg.Logger.Info("lease of a job that has ended released", "job", printable(filepath.Base(holder)))
	}
}
