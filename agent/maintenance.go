package agent

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/runner"
)

const (
	maintenanceEvery = 30 * time.Second // between rounds
	pruneEvery       = 20               // rounds between prunings

	// sweepGrace is the age from which a run without a job is ended. It leaves time
	// for an operator who moves a job directory about.
	sweepGrace = 5 * time.Minute
)

// A maintainer does now and then what keeps the machine tidy: it writes what a full
// disk refused, retries what the server rejected, ends runs without a job, and
// compresses and removes old jobs.
type maintainer struct {
	cfg      Config
	log      *slog.Logger
	registry *registry
	outbox   *outbox.Outbox
	notices  *notices.Board
	watchdog watchdog
	two      func() string // what shows that another agent uses the name; empty if nothing does

	retryClean func(context.Context) // see execution.Executor

	undelivered atomic.Int64 // bytes of the reports of ended jobs that wait for the server

	tidied sync.Map // *jobs.Job → struct{}, of jobs that are as small as they get
}

func newMaintainer(cfg Config, registry *registry, outbox *outbox.Outbox, notices *notices.Board) *maintainer {
	return &maintainer{cfg: cfg, log: cfg.Logger, registry: registry, outbox: outbox, notices: notices}
}

// run does rounds until ctx is done, once it is known which jobs there are.
func (m *maintainer) run(ctx context.Context, examined <-chan struct{}) {
	select {
	case <-examined:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(maintenanceEvery)
	defer tick.Stop()
	defer m.watchdog.rest()
	for round := 0; ; round++ {
		m.watchdog.start(maintenanceLimit)
		m.catchUp()
		m.outbox.RetryRejected()
		m.measure()
		if round%pruneEvery == 0 {
			m.prune()
		}
		m.sweepRuns(ctx)
		m.retryClean(ctx)
		m.watchdog.rest()
		select {
		case <-ctx.Done():
			m.catchUp()
			return
		case <-tick.C:
		}
	}
}

// catchUp does for all jobs what could not be done when it was due: it writes the
// records that a full disk refused, and compresses logs that were being read.
func (m *maintainer) catchUp() {
	for _, j := range m.registry.all() {
		m.tidy(j)
		if !j.Save() {
			m.notices.LogOnce("unsaved", func() { m.log.Error("the disk refuses the state of a job; free some space", "job", j.ID) })
		}
	}
}

// measure takes the size of the reports that wait for the server.
func (m *maintainer) measure() {
	var sum int64
	for _, j := range m.registry.all() {
		if !j.State().Ended() || m.outbox.Delivered(j) {
			continue
		}
		sum += j.Log.Size()
		if info, err := os.Stat(j.Path(jobs.ResultFile)); err == nil {
			sum += info.Size()
		}
	}
	m.undelivered.Store(sum)
}

// sweepRuns ends runs of this agent that belong to none of its jobs.
func (m *maintainer) sweepRuns(ctx context.Context) {
	sweeper, ok := runner.As[runner.Sweeper](m.cfg.Runner)
	if !ok || m.two() != "" {
		return // a run may be that of another agent with this name
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ended, err := sweeper.Sweep(ctx, m.registry.isLive, sweepGrace)
	for _, id := range ended {
		m.log.Warn("run that belongs to no job was ended", "run", printable(id))
	}
	if err != nil && ctx.Err() == nil {
		m.notices.LogOnce("sweep", func() { m.log.Info("runs that belong to no job are not looked for", "err", err) })
	}
}

// tidy makes a delivered job small, unless somebody reads it: it compresses its log,
// and removes what the runner kept to find its run again.
func (m *maintainer) tidy(j *jobs.Job) {
	if _, done := m.tidied.Load(j); done || !m.outbox.Delivered(j) {
		return
	}
	compressed, err := j.Log.Compress()
	if err != nil {
		m.notices.LogOnce("compress", func() { m.log.Warn("log not compressed", "job", j.ID, "err", err) })
	}
	if !compressed {
		return
	}
	m.tidied.Store(j, struct{}{})
	if j.Record().Outcome.State != jobs.StateCompleted {
		return // the raw output may say why
	}
	entries, err := os.ReadDir(j.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if path := j.Path(e.Name()); e.IsDir() && path != j.ResultsDir() {
			if err := os.RemoveAll(path); err != nil {
				m.log.Warn("file of a runner not removed", "job", j.ID, "err", err)
			}
		}
	}
}

// prune removes the oldest delivered jobs until the rest is within the bounds of
// Config.Keep. A job whose result wasn't accepted stays.
func (m *maintainer) prune() {
	type candidate struct {
		job  *jobs.Job
		end  time.Time
		size int64
	}
	var candidates []candidate
	var total int64
	for _, j := range m.registry.all() {
		if rec := j.Record(); rec.State.Ended() && m.outbox.ResultAccepted(j) {
			size := dirSize(j.Dir)
			total += size
			candidates = append(candidates, candidate{j, rec.EndedAt, size})
		}
	}
	slices.SortFunc(candidates, func(x, y candidate) int { return x.end.Compare(y.end) })
	for _, c := range candidates {
		if time.Since(c.end) <= m.cfg.Keep.MaxAge && total <= m.cfg.Keep.MaxBytes {
			break
		}
		if c.job.Log.InUse() || !c.job.Record().LeftoversSince.IsZero() {
			continue
		}
		if err := m.registry.remove(c.job); err != nil {
			m.notices.LogOnce("prune "+c.job.ID, func() { m.log.Warn("old job not removed", "job", c.job.ID, "err", err) })
			continue
		}
		m.outbox.Forget(c.job)
		m.tidied.Delete(c.job)
		total -= c.size
		m.log.Info("old job removed", "job", c.job.ID, "ended", c.end)
	}
}

// dirSize returns the sum of the sizes of the files below dir, in bytes.
func dirSize(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
