package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// brokenLimit is after how many failures of one report, while others go through,
// it is sent without its data.
const brokenLimit = 3

// sayAfter is how long a report fails, while heartbeats go through, until an
// operator hears of it.
const sayAfter = 2 * time.Minute

var (
	// errDraining ends a courier when the agent stops.
	errDraining = errors.New("stopping")

	// errRefused ends a report that the server refused for good. It is tried
	// again at the next start, since it may be the configuration that was wrong,
	// and one without permission now and then before that.
	errRefused = errors.New("refused")
)

// A courier brings the reports of one job to the server, one after another:
// that it runs, each line of its log, its result, and last its final status, so
// that whoever sees the test ended finds all the rest there. It works from what
// is on disk, never holds up the job, and goes on after a restart with what the
// server has not accepted yet.
type courier struct {
	a   *Agent
	j   *job
	d   *delivery
	ask Inquirer // nil where the server cannot be asked

	drain  context.Context // done when the agent stops: no more waiting
	inLane bool
	away   string // the server's word on reports that have to do without permission
}

// dispatchCourier starts the courier of a job.
func (a *Agent) dispatchCourier(j *job) {
	if a.cfg.Reporter == nil {
		return
	}
	a.mu.Lock()
	ctx, drain := a.deliverCtx, a.drainCtx
	a.mu.Unlock()
	a.couriers.Go(func() {
		c := &courier{a: a, j: j, drain: drain}
		c.ask, _ = a.cfg.Reporter.(Inquirer)
		c.run(ctx)
	})
}

// run delivers all the reports, each after the one before is settled. It
// returns early only when the agent stops.
func (c *courier) run(ctx context.Context) {
	d, err := openDelivery(c.j.path(deliveryFile))
	if err != nil {
		c.a.log.Warn("delivery is kept in memory only", "job", c.j.id, "err", err)
	}
	c.d = d
	defer d.Close()
	defer c.leaveLane()
	steps := []func(context.Context) error{c.awaitTurn, c.findTest, c.skipTest, c.start, c.shipLog, c.awaitEnd, c.deliverResult, c.deliverStatus}
	for _, step := range steps {
		if c.j.state().Ended() {
			if err := c.enterLane(ctx); err != nil {
				return
			}
		}
		err := step(ctx)
		switch {
		case err == nil, errors.Is(err, errRefused):
		case ctx.Err() != nil, errors.Is(err, errDraining):
			return // the agent stops; the next start goes on from the ledger
		default:
			c.a.log.Error("part of the reports is not delivered", "job", c.j.id, "err", err)
		}
	}
	if err := d.sync(); err != nil {
		c.a.log.Warn("delivery not made to last", "job", c.j.id, "err", err)
	}
	c.noteRefusal()
	c.a.delivered(c.j, d.get())
}

// enterLane waits for one of the few lanes in which jobs that have ended
// deliver. A job whose benchmark runs needs none.
func (c *courier) enterLane(ctx context.Context) error {
	if c.inLane {
		return nil
	}
	select { // a lane that is free is taken, also while the agent stops
	case c.a.uplink.backlog <- struct{}{}:
		c.inLane = true
		return nil
	default:
	}
	select {
	case c.a.uplink.backlog <- struct{}{}:
		c.inLane = true
		return nil
	case <-c.drain.Done():
		return errDraining
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *courier) leaveLane() {
	if c.inLane {
		<-c.a.uplink.backlog
		c.inLane = false
	}
}

// awaitTurn waits until the job has its turn, or has ended without one.
func (c *courier) awaitTurn(ctx context.Context) error {
	return c.await(ctx, func() bool { return c.j.state() != StateAccepted })
}

// awaitEnd waits until the job has ended.
func (c *courier) awaitEnd(ctx context.Context) error {
	return c.await(ctx, func() bool { return c.j.state().Ended() })
}

func (c *courier) await(ctx context.Context, ready func() bool) error {
	for {
		changed := c.j.changes.wait()
		if ready() {
			return nil
		}
		if c.drain.Err() != nil {
			return errDraining
		}
		select {
		case <-changed:
		case <-c.drain.Done(): // once more: what happened before it counts
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// skipTest notes that nobody waits for the status or the log of a job without a
// test.
func (c *courier) skipTest(context.Context) error {
	if c.j.testID() == "" {
		c.note(func(l *ledger) { l.Started, l.Log, l.Terminal = true, true, true })
	}
	return nil
}

// start tells the server that the test runs, unless it ended without that. A
// test that was stopped on the server meanwhile is not set running again: the
// agent never takes a step back.
func (c *courier) start(ctx context.Context) error {
	rec := c.j.snapshot()
	ended := rec.State.Ended() || rec.abandoned()
	if c.d.get().Started || ended && rec.StartedAt.IsZero() {
		return nil
	}
	return c.report(ctx, report{
		what: "status running",
		settled: func(ctx context.Context) (bool, error) {
			if c.ask == nil {
				return false, nil
			}
			test, err := c.ask.Test(ctx, c.j.testID())
			if err != nil {
				return false, err
			}
			if endedOnServer(test.Status) {
				c.a.stoppedOnServer(c.j, test)
				return true, nil
			}
			return test.Status == statusRunning, nil
		},
		askFirst: true,
		send: func(ctx context.Context) error {
			return c.a.cfg.Reporter.ReportStatus(ctx, c.j.testID(), statusRunning, "")
		},
		done: func(l *ledger) { l.Started = true },
	})
}

// shipLog ships the log from the first line that isn't settled to its end.
func (c *courier) shipLog(ctx context.Context) error {
	if c.d.get().Log {
		return nil
	}
	if !c.j.logs.exists() {
		c.note(func(l *ledger) { l.Log = true }) // it ended without its turn
		return nil
	}
	log, release, err := c.a.useLog(c.j)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer c.a.releaseLog(c.j, release)
	s := &shipper{courier: c, log: log}
	return s.run(ctx)
}

// deliverResult delivers the job's result.
func (c *courier) deliverResult(ctx context.Context) error {
	if c.d.get().Result {
		return nil
	}
	out := c.outgoing()
	defer out.Close()
	return c.report(ctx, report{
		what:     "result",
		askFirst: c.d.get().Tried, // by an agent before this one
		settled: func(ctx context.Context) (bool, error) {
			return out.known(ctx, c.ask)
		},
		send: func(ctx context.Context) error {
			c.note(func(l *ledger) { l.Tried = true })
			id := orDefault(c.a.beats.State().AgentID, c.a.cfg.Name)
			err := out.send(ctx, c.a.cfg.Reporter, id)
			if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Status == http.StatusNotFound {
				// The server has forgotten the agent, which the next heartbeat
				// mends.
				c.a.beats.Nudge()
				return fmt.Errorf("agent %s: %v", id, refused)
			}
			return err
		},
		broken: func() bool {
			if !out.dropData() {
				return false
			}
			c.a.log.Warn("server fails at this result, sending it without its data; the file is kept",
				"job", c.j.id, "file", c.j.path(resultFileName))
			return true
		},
		done: func(l *ledger) { l.Result = true },
	})
}

// outgoing opens the job's report. One that cannot be read is made from the job's
// state, without data.
func (c *courier) outgoing() *outgoing {
	out, err := openOutgoing(c.j.path(resultFileName), c.a.cfg.Reporter, func(note string) {
		c.a.log.Warn("result changed before it is sent", "job", c.j.id, "change", note)
	})
	if err != nil {
		c.a.log.Warn("result cannot be read, sending it without its data", "job", c.j.id, "err", err)
		return &outgoing{encoded: c.j.bareResult()}
	}
	return out
}

// deliverStatus tells the server how the test ended.
func (c *courier) deliverStatus(ctx context.Context) error {
	if c.d.get().Terminal {
		return nil
	}
	rec := c.j.snapshot()
	return c.report(ctx, report{
		what: "status " + rec.State.wireStatus(),
		// A test that somebody stopped on the server has its end: it gets no
		// second one, also when the benchmark ended before the agent heard of it.
		askFirst: true,
		settled: func(ctx context.Context) (bool, error) {
			if c.ask == nil {
				return false, nil
			}
			test, err := c.ask.Test(ctx, c.j.testID())
			if err != nil {
				return false, err
			}
			return endedOnServer(test.Status), nil
		},
		send: func(ctx context.Context) error {
			return c.a.cfg.Reporter.ReportStatus(ctx, c.j.testID(), rec.State.wireStatus(), rec.Outcome.Error)
		},
		done: func(l *ledger) { l.Terminal = true },
	})
}

// note changes the job's ledger.
func (c *courier) note(change func(*ledger)) {
	if err := c.d.set(change); err != nil {
		c.a.sayOnce("delivery", func() { c.a.log.Warn("delivery not written", "job", c.j.id, "err", err) })
	}
}

// A report is one thing to tell the server.
type report struct {
	what string // for the agent's log

	// settled asks the server whether it knows already. It is asked before the
	// first try if askFirst is set, and before each try that follows one whose
	// outcome is in doubt.
	settled  func(context.Context) (bool, error)
	askFirst bool

	send func(context.Context) error

	// broken, if set, is called when the server fails again and again at this
	// report while it takes others. It says whether the report was changed so
	// that it is worth another try.
	broken func() bool

	done func(*ledger) // what to write down once it is settled
}

// report makes one report, trying until it is accepted or found to be known.
// The error is errRefused if the server refuses it for good; any other means
// that the agent stops.
func (c *courier) report(ctx context.Context, r report) error {
	inDoubt := r.askFirst
	broken, begun, said := 0, time.Now(), false
	for {
		writes := c.a.uplink.succeeded()
		err := c.a.uplink.do(ctx, func(ctx context.Context) error {
			if inDoubt && r.settled != nil {
				if known, err := r.settled(ctx); err != nil || known {
					return err
				}
			}
			return r.send(ctx)
		})
		if err == nil {
			if said {
				c.a.log.Info("report got through", "job", c.j.id, "report", r.what, "took", time.Since(begun).Round(time.Second))
			}
			c.note(r.done)
			return nil
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			c.refused(r, refused)
			return errRefused
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.drain.Err() != nil {
			return errDraining
		}
		inDoubt = true
		c.a.log.Debug("report not delivered, trying again", "job", c.j.id, "report", r.what, "err", err)
		if !said && time.Since(begun) > sayAfter && c.a.beats.State().FailingFor == 0 {
			said = true
			c.a.log.Warn("report does not get through, trying on", "job", c.j.id, "report", r.what, "err", err)
		}
		if !errors.Is(err, ErrBroken) || r.broken == nil {
			continue
		}
		if broken++; broken >= brokenLimit && c.a.uplink.succeeded() > writes && r.broken() {
			broken = 0
		}
	}
}

// endedOnServer reports whether a test with this status is over for the server.
func endedOnServer(status string) bool {
	switch status {
	case statusCompleted, statusFailed, "cancelled":
		return true
	}
	return false
}
