package execution

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/runner"
)

// leftovers are the jobs whose benchmarks may have left something running that could
// not be ended, because the container engine was away for one.
type leftovers struct {
	turn chan struct{} // held by the one that ends them

	mu   sync.Mutex
	jobs map[*jobs.Job]time.Time // when the benchmark was started. guarded by mu
}

func newLeftovers() *leftovers {
	return &leftovers{turn: make(chan struct{}, 1), jobs: map[*jobs.Job]time.Time{}}
}

func (l *leftovers) set(j *jobs.Job, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since.IsZero() {
		delete(l.jobs, j)
	} else {
		l.jobs[j] = since
	}
}

func (l *leftovers) all() map[*jobs.Job]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.jobs)
}

// cleanLeftovers ends what a benchmark that was stopped from outside left running,
// such as engine containers. What can't be ended now is tried again, see RetryClean.
func (x *execution) cleanLeftovers(since time.Time, out runner.Output) {
	if _, ok := runner.As[runner.Cleaner](x.cfg.Runner); !ok {
		return
	}
	if err := x.clean(context.Background(), since, out); err != nil {
		x.log.Warn("what the benchmark left behind was not removed, trying again later", "job", x.job.ID, "err", err)
		_ = out.WriteMessage(fmt.Sprintf("What the benchmark left behind could not be removed; the agent tries again before the next benchmark: %v", err))
		x.noteLeftovers(since)
	}
}

func (x *execution) clean(ctx context.Context, since time.Time, out runner.Output) (err error) {
	cleaner, ok := runner.As[runner.Cleaner](x.cfg.Runner)
	if !ok {
		return nil
	}
	defer x.catch(ctx, "runner", &err)
	ctx, cancel := context.WithTimeout(ctx, x.cfg.StopGrace+CleanTimeout)
	defer cancel()
	return cleaner.Clean(ctx, x.runnerJob(), since, out)
}

// noteLeftovers notes in memory and on disk what is left to be ended since then; zero
// says that nothing is.
func (x *execution) noteLeftovers(since time.Time) {
	x.leftovers.set(x.job, since)
	if err := x.job.Update(func(rec *jobs.Record) { rec.LeftoversSince = since }); err != nil {
		x.log.Warn("state not written", "job", x.job.ID, "err", err)
	}
}

// Recover takes in what an agent before this one noted of j.
func (e *Executor) Recover(j *jobs.Job) {
	if since := j.Record().LeftoversSince; !since.IsZero() {
		e.leftovers.set(j, since)
	}
}

// RetryClean ends what benchmarks left running that could not be ended then, unless a
// benchmark runs: it is unknown whose it is. A job calls it before its benchmark.
func (e *Executor) RetryClean(ctx context.Context) {
	if len(e.leftovers.all()) == 0 {
		return
	}
	select {
	case e.leftovers.turn <- struct{}{}:
		defer func() { <-e.leftovers.turn }()
	case <-ctx.Done():
		return
	}
	for j, since := range e.leftovers.all() {
		if e.cfg.Queue.benchmarkRuns() {
			return
		}
		x := &execution{Executor: e, job: j}
		if err := x.clean(ctx, since, discard); err != nil {
			e.log.Debug("what the benchmark left behind is still not removed", "job", j.ID, "err", err)
			continue
		}
		x.noteLeftovers(time.Time{})
		e.log.Info("what the benchmark left behind was removed", "job", j.ID)
	}
}
