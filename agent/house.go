package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/runner"
)

const (
	houseEvery = 30 * time.Second // between rounds of housekeeping
	pruneEvery = 20               // rounds between prunings

	// sweepGrace is the age from which a run that belongs to no job is ended.
	// It leaves time for an operator who moves a job directory about.
	sweepGrace = 5 * time.Minute
)

// keepHouse does now and then what keeps the machine tidy, until ctx is done:
// writes what a full disk refused, tries again what the server refused, ends
// runs that nobody claims, removes old jobs.
func (a *Agent) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	defer a.rounds.rest()
	for round := 0; ; round++ {
		a.rounds.busy(roundLimit)
		a.catchUp()
		a.retryRefused()
		if round%pruneEvery == 0 {
			a.prune()
		}
		a.sweepRuns(ctx)
		a.rounds.rest()
		select {
		case <-ctx.Done():
			a.catchUp()
			return
		case <-tick.C:
		}
	}
}

// allJobs returns all jobs, in no order.
func (a *Agent) allJobs() []*job {
	a.mu.Lock()
	defer a.mu.Unlock()
	jobs := make([]*job, 0, len(a.jobs))
	for _, j := range a.jobs {
		jobs = append(jobs, j)
	}
	return jobs
}

// catchUp does for all jobs what could not be done when it was due: writes the
// states that a full disk refused, compresses the logs that were being read.
func (a *Agent) catchUp() {
	for _, j := range a.allJobs() {
		a.tidy(j)
		if !j.save() {
			a.sayOnce("unsaved", func() { a.log.Error("the disk refuses the state of a job; free some space", "job", j.id) })
		}
	}
}

// sweepRuns ends runs of this agent's that belong to none of its jobs.
func (a *Agent) sweepRuns(ctx context.Context) {
	sweeper, ok := runner.As[runner.Sweeper](a.cfg.Runner)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ended, err := sweeper.Sweep(ctx, a.isLive, sweepGrace)
	for _, id := range ended {
		a.log.Warn("run that belongs to no job was ended", "run", printable(id))
	}
	if err != nil && ctx.Err() == nil {
		a.sayOnce("sweep", func() { a.log.Info("runs that belong to no job are not looked for", "err", err) })
	}
}

// settled reports whether nobody needs to hear anything more of the job.
func (a *Agent) settled(j *job) bool {
	return j.state().Ended() && (a.cfg.Reporter == nil || peekLedger(j.path(deliveryFile)).settled())
}

// delivered is called when a job's courier has done what it can.
func (a *Agent) delivered(j *job, l ledger) {
	j.done.Store(l.settled())
	a.tidy(j)
}

// tidy makes a delivered job small, unless somebody reads it: its log is
// compressed, and what the runner kept to find its run again goes.
func (a *Agent) tidy(j *job) {
	if !j.done.Load() || j.tidied.Load() {
		return
	}
	compressed, err := j.logs.compress()
	if err != nil {
		a.sayOnce("compress", func() { a.log.Warn("log not compressed", "job", j.id, "err", err) })
	}
	if !compressed {
		return
	}
	j.tidied.Store(true)
	if j.snapshot().Outcome.State != StateCompleted {
		return // the raw output may say why
	}
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != resultsDir {
			if err := os.RemoveAll(j.path(e.Name())); err != nil {
				a.log.Warn("file of a runner not removed", "job", j.id, "err", err)
			}
		}
	}
}

// prune removes the oldest of the delivered jobs until the rest keeps within
// the bounds of Config.Keep. A job whose result wasn't accepted stays.
func (a *Agent) prune() {
	type candidate struct {
		j    *job
		end  time.Time
		size int64
	}
	var candidates []candidate
	var total int64
	for _, j := range a.allJobs() {
		rec := j.snapshot()
		if !rec.State.Ended() || a.cfg.Reporter != nil && !peekLedger(j.path(deliveryFile)).Result {
			continue
		}
		size := dirSize(j.dir)
		total += size
		candidates = append(candidates, candidate{j, rec.EndedAt, size})
	}
	slices.SortFunc(candidates, func(x, y candidate) int { return x.end.Compare(y.end) })
	for _, c := range candidates {
		if time.Since(c.end) <= a.cfg.Keep.MaxAge && total <= a.cfg.Keep.MaxBytes {
			break
		}
		if c.j.logs.inUse() {
			continue // somebody reads its log
		}
		if err := a.forget(c.j); err != nil {
			a.sayOnce("prune "+c.j.id, func() { a.log.Warn("old job not removed", "job", c.j.id, "err", err) })
			continue
		}
		total -= c.size
		a.log.Info("old job removed", "job", c.j.id, "ended", c.end)
	}
}

// forget removes a job from disk and memory. Its id is remembered, so that the
// command is never run again.
func (a *Agent) forget(j *job) error {
	if err := a.store.remove(j); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.jobs, j.id)
	return nil
}

// dirSize returns the sum of the sizes of the files below dir, in bytes.
func dirSize(dir string) int64 {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return sum
	}
	return sum
}
