package agent

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

const (
	// reconcileTimeout bounds one round of questions to the server.
	reconcileTimeout = 25 * time.Second

	// watchEvery is how often the server is asked whether the tests of running jobs
	// were stopped there, each by a request for that one test. Heartbeats, which cost
	// the benchmark more, are rarer.
	watchEvery = 9 * time.Second
)

// After a long outage many agents return to a server together. Each looks for what
// it missed at a random time within lookUpStep for each failed attempt after the
// first, and within lookUpSpread at most.
const (
	lookUpStep   = 10 * time.Second
	lookUpSpread = 90 * time.Second
)

// A reconciler asks the server what heartbeats don't say: whether tests that wait or
// run here were stopped there, and which commands were handed out whose delivery was
// lost.
type reconciler struct {
	cfg      Config
	log      *slog.Logger
	ask      reporter.Inquirer // nil if the server cannot be asked
	registry *registry
	queue    *execution.Queue
	notices  *notices.Board

	// receive accepts a lost command; repeat has the reports of a job sent again whose
	// command the server calls handed out; stopped stops the job of a test that the
	// server calls ended. Set once, before run.
	receive func(context.Context, heartbeat.Command, jobs.Source)
	repeat  func(id string)
	stopped func(*jobs.Job, reporter.Test)

	two func() string // what shows that another agent uses the name; empty if nothing does

	pokes chan struct{} // asks for a round; holds at most one
	asked int           // of many waiting jobs, how many were asked about. owned by run

	mu        sync.Mutex
	lookUpAt  time.Time // when to look for lost commands; zero for never. guarded by mu
	notBefore time.Time // when that may be at the earliest. guarded by mu
}

func newReconciler(cfg Config, registry *registry, queue *execution.Queue, notices *notices.Board) *reconciler {
	r := &reconciler{cfg: cfg, log: cfg.Logger, registry: registry, queue: queue, notices: notices, pokes: make(chan struct{}, 1)}
	r.ask, _ = reporter.As[reporter.Inquirer](cfg.Reporter)
	return r
}

// poke asks for a round of questions now. It never waits.
func (r *reconciler) poke() {
	select {
	case r.pokes <- struct{}{}:
	default: // one is asked for already
	}
}

// lookUpSoon makes the next round look for lost commands.
func (r *reconciler) lookUpSoon() { r.lookUpBy(time.Now()) }

// lookUpIn makes the agent look for lost commands after d.
func (r *reconciler) lookUpIn(d time.Duration) { r.lookUpBy(time.Now().Add(d)) }

// lookUpAfter makes the agent look for lost commands after an outage with that many
// failed attempts.
func (r *reconciler) lookUpAfter(failures int) {
	at := time.Now()
	if spread := min(time.Duration(failures-1)*lookUpStep, lookUpSpread); spread > 0 {
		at = at.Add(rand.N(spread))
	}
	r.lookUpBy(at)
}

func (r *reconciler) lookUpBy(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Before(r.notBefore) {
		at = r.notBefore
	}
	if r.lookUpAt.IsZero() || at.Before(r.lookUpAt) {
		r.lookUpAt = at
	}
}

// holdOff lets no look-up happen before d has passed.
func (r *reconciler) holdOff(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notBefore = time.Now().Add(d)
}

// untilLookUp returns how long it is until lost commands are looked for; due is false
// if no time is set.
func (r *reconciler) untilLookUp() (wait time.Duration, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.lookUpAt), !r.lookUpAt.IsZero()
}

// run does rounds until ctx is done: one after each poke, and one when a look-up that
// was spread over some time is due. In between it asks about the running jobs.
func (r *reconciler) run(ctx context.Context) {
	if r.ask == nil {
		return
	}
	timer := time.NewTimer(lookUpSpread)
	defer timer.Stop()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		var later <-chan time.Time
		if wait, due := r.untilLookUp(); due && wait > 0 {
			timer.Reset(wait)
			later = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-watch.C:
			r.watch(ctx)
			continue
		case <-r.pokes:
		case <-later:
		}
		r.round(ctx)
		watch.Reset(watchEvery)
	}
}

func (r *reconciler) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	if wait, due := r.untilLookUp(); due && wait <= 0 {
		r.mu.Lock()
		r.lookUpAt = time.Time{}
		r.mu.Unlock()
		if err := r.findLost(ctx); err != nil {
			r.lookUpSoon() // after the next heartbeat
			r.log.DebugContext(ctx, "server not asked for lost commands", "err", err)
		}
	}
	r.findStopped(ctx, append(r.queue.Active(), r.nextWaiting()...))
}

// askWaiting is how many of the jobs that wait a round asks about.
const askWaiting = 50

// nextWaiting returns the jobs that wait of which this round asks: all, or the next few
// of many.
func (r *reconciler) nextWaiting() []*jobs.Job {
	waiting := r.queue.Waiting()
	if len(waiting) <= askWaiting {
		return waiting
	}
	from := r.asked % len(waiting)
	r.asked = from + askWaiting
	return append(waiting[from:], waiting[:from]...)[:askWaiting]
}

// watch asks about the jobs that run.
func (r *reconciler) watch(ctx context.Context) {
	active := r.queue.Active()
	if len(active) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	r.findStopped(ctx, active)
}

// findLost accepts the commands that the server handed out to this agent and that
// never arrived.
func (r *reconciler) findLost(ctx context.Context) error {
	if r.cfg.RecoverWithin < 0 || r.two() != "" {
		return nil // of two agents with one name, neither knows whose a command is
	}
	commands, err := r.ask.Dispatched(ctx, r.cfg.Name)
	if err != nil {
		return err
	}
	for _, cmd := range commands {
		id, _ := jobs.SafeID(cmp.Or(cmd.ID, cmd.TestID))
		if r.registry.knows(id) {
			r.repeat(id)
			continue
		}
		if age := time.Since(cmd.CreatedAt); !cmd.CreatedAt.IsZero() && age > r.cfg.RecoverWithin {
			r.notices.LogOnce("expired "+id, func() {
				r.log.WarnContext(ctx, "command that the server handed out long ago is not run",
					"job", id, "age", age.Round(time.Minute), "limit", r.cfg.RecoverWithin)
			})
			continue
		}
		r.log.InfoContext(ctx, "command found whose delivery was lost", "job", id)
		r.receive(ctx, cmd.Command, jobs.FromRecovery)
	}
	return r.findForgotten(ctx)
}

// checkEnded is how many of the jobs that ended last are looked up at the server.
const checkEnded = 10

// findForgotten has the reports of jobs sent again whose end the server does not know,
// though it was told: it was restored from a backup.
func (r *reconciler) findForgotten(ctx context.Context) error {
	var ended []*jobs.Job
	for _, j := range r.registry.all() {
		if j.State().Ended() && j.TestID() != "" && time.Since(j.Record().EndedAt) < r.cfg.RecoverWithin {
			ended = append(ended, j)
		}
	}
	slices.SortFunc(ended, func(a, b *jobs.Job) int { return b.Record().EndedAt.Compare(a.Record().EndedAt) })
	for _, j := range ended[:min(len(ended), checkEnded)] {
		test, err := r.ask.Test(ctx, j.TestID())
		if _, gone := errors.AsType[*reporter.RejectedError](err); gone {
			continue
		}
		if err != nil {
			return err
		}
		if !test.Status.Ended() {
			r.repeat(j.ID)
		}
	}
	return nil
}

// findStopped stops those of the jobs whose tests the server calls ended.
func (r *reconciler) findStopped(ctx context.Context, of []*jobs.Job) {
	for _, j := range of {
		if j.TestID() == "" || j.State().Ended() || j.Cancelled() != nil {
			continue
		}
		test, err := r.ask.Test(ctx, j.TestID())
		if err != nil {
			r.log.DebugContext(ctx, "server not asked about a test", "job", j.ID, "err", err)
			return // asking about the others would fail as well
		}
		if test.Stopped() {
			r.stopped(j, test)
		}
	}
}
