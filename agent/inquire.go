package agent

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"
)

// inquiryTimeout bounds one round of questions to the server.
const inquiryTimeout = 25 * time.Second

// inquire asks the server, beside the heartbeats, what they don't say: whether
// tests that wait or run here were stopped there, and which commands were
// handed out whose answer never arrived. Rounds never overlap.
func (a *Agent) inquire() {
	ask, ok := a.cfg.Reporter.(Inquirer)
	if !ok || !a.inquiry.TryLock() {
		return
	}
	ctx := a.drainContext()
	a.background.Go(func() {
		defer a.inquiry.Unlock()
		ctx, cancel := context.WithTimeout(ctx, inquiryTimeout)
		defer cancel()
		if a.lookup.Swap(false) {
			if err := a.findLost(ctx, ask); err != nil {
				a.lookup.Store(true)
				a.log.DebugContext(ctx, "server not asked for lost commands", "err", err)
			}
		}
		a.findStopped(ctx, ask)
	})
}

// After a long outage many agents come back to a server together. Each looks for
// what it missed at some time of the next lookupStep for each attempt that
// failed after the first, at most of the next lookupSpread.
const (
	lookupStep   = 10 * time.Second
	lookupSpread = 90 * time.Second
)

// lookUpAfter has the agent look for lost commands after an outage in which so
// many attempts to reach the server failed.
func (a *Agent) lookUpAfter(failures int) {
	spread := min(time.Duration(failures-1)*lookupStep, lookupSpread)
	if spread <= 0 {
		a.lookup.Store(true)
		return
	}
	if a.lookupDue.Swap(true) {
		return
	}
	ctx := a.drainContext()
	a.background.Go(func() {
		defer a.lookupDue.Store(false)
		timer := time.NewTimer(rand.N(spread))
		defer timer.Stop()
		select {
		case <-timer.C:
			a.lookup.Store(true)
			a.inquire()
		case <-ctx.Done(): // the next start looks
		}
	})
}

// findLost accepts the commands that the server handed out to this agent and
// that never arrived. What is known here already is left out by accept.
func (a *Agent) findLost(ctx context.Context, ask Inquirer) error {
	if a.cfg.RecoverWithin < 0 {
		return nil
	}
	commands, err := ask.Dispatched(ctx, a.cfg.Name)
	if err != nil {
		return err
	}
	for _, cmd := range commands {
		id, _ := safeID(orDefault(cmd.ID, cmd.TestID))
		if a.knows(id) {
			continue
		}
		if age := time.Since(cmd.CreatedAt); !cmd.CreatedAt.IsZero() && age > a.cfg.RecoverWithin {
			a.sayOnce("expired "+id, func() {
				a.log.WarnContext(ctx, "command that the server handed out long ago is not run",
					"job", id, "age", age.Round(time.Minute), "limit", a.cfg.RecoverWithin)
			})
			continue
		}
		a.log.InfoContext(ctx, "command found whose delivery was lost", "job", id)
		a.receive(ctx, cmd.Command, sourceRecovered)
	}
	return nil
}

// knows reports whether there is or was a job of that name.
func (a *Agent) knows(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.jobs[id] != nil || a.reserved[id] || a.store.ended(id)
}

// findStopped stops the jobs whose tests the server calls ended.
func (a *Agent) findStopped(ctx context.Context, ask Inquirer) {
	for _, j := range append(a.queue.active(), a.queue.line()...) {
		if j.testID() == "" || j.state().Ended() || j.cancelled() != nil {
			continue
		}
		test, err := ask.Test(ctx, j.testID())
		if err != nil {
			a.log.DebugContext(ctx, "server not asked about a test", "job", j.id, "err", err)
			return // the others would fare no better
		}
		if test.Status == statusFailed || test.Status == "cancelled" {
			a.stoppedOnServer(j, test)
		}
	}
}

// stoppedOnServer stops a job whose test the server calls ended.
func (a *Agent) stoppedOnServer(j *job, test Test) {
	by := "server"
	if who, ok := strings.CutPrefix(test.Error, "Cancelled by "); ok && who != "" {
		by = printable(who) + " on the server"
	}
	if err := a.cancel(j, cancellation{By: by}); err != nil {
		a.log.Debug("job was not stopped", "job", j.id, "err", err)
	}
}
