package outbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A report is given up if it alone is refused: it fails again and again while other
// requests get through. An answer that a proxy or firewall gives to a request for
// what it holds is believed soon. Any other failure may be chance, on a bad network: see
// chance.
var (
	whenBlocked = threshold{failures: 4, after: 15 * time.Second, chance: 1}
	whenFailed  = threshold{failures: 5, after: 10 * time.Second, chance: 1e-3} // the server fails at a result
	otherwise   = threshold{failures: 10, after: 2 * time.Minute, chance: 1e-6}

	// After another report of the same job was refused alone.
	whenBlockedAgain = threshold{failures: 2, chance: 1}
	otherwiseAgain   = threshold{failures: 5, after: 10 * time.Second, chance: 1e-3}
)

const (
	// refusedRounds is how often a report and its reduced form are both refused
	// before the report is left for later.
	refusedRounds = 3

	// patience is how long the server's own refusal of a patient report is waited
	// out.
	patience = 15 * time.Minute

	// maxUnasked is how often the server is asked in vain what it holds, at least, while
	// other requests get through.
	maxUnasked = 5

	// othersFirst is how much later than others a report that failed is tried again.
	othersFirst = 50 * time.Millisecond

	// heartbeatAfter is from how many failures on each asks for a heartbeat, which
	// tells whether others get through.
	heartbeatAfter = 3
)

// threshold is how often and how long a report fails before it counts as refused.
type threshold struct {
	failures int
	after    time.Duration
	chance   float64 // that so many failures would have if they were nothing but chance, at most
}

// A trial is the history of one report's tries.
type trial struct {
	*sender
	report  report
	begun   time.Time
	inDoubt bool // whether an earlier try may have got through
	warned  bool

	failures     int       // in a row
	firstAt      time.Time // when the first of them was
	successes    int       // of other requests up to then
	failedBefore int       // requests, this one too, that had not got through by then
	latest       int       // of other requests up to the latest failure; -1 before one
	unasked      int       // how often the server could not be asked what it holds
	mute         bool      // whether it alone does not answer that
	asking       bool      // whether the latest try was spent on that
	rounds       int       // how often the reduced form was refused as well
	retry        *backoff.ExponentialBackOff
}

func (s *sender) newTrial(r report) *trial {
	return &trial{sender: s, report: r, begun: time.Now(), inDoubt: r.askFirst, latest: -1, retry: newRetry()}
}

// since returns how many requests had got through at the latest failure, -1 if there
// was none.
func (t *trial) since() int {
	if t.latest < 0 && t.refusedBefore {
		return 0 // the next failure is taken for the report's own
	}
	return t.latest
}

// attempt sends the report once, unless the server knows it already. A server that
// answers everything but the question what it holds is not asked for ever.
func (t *trial) attempt(ctx context.Context) error {
	t.asking = t.inDoubt && t.report.accepted != nil && !t.mute
	if t.asking {
		known, err := t.report.accepted(ctx)
		if err != nil && ctx.Err() == nil {
			t.countUnasked(err)
		}
		if err != nil || known {
			return err
		}
	}
	t.asking, t.inDoubt = false, true
	return t.report.send(ctx)
}

// countUnasked counts a question that was not answered. During an outage it is not
// counted.
func (t *trial) countUnasked(err error) {
	if t.latest < 0 || t.breaker.succeeded() == t.latest {
		return
	}
	t.unasked++
	if t.mute = t.unasked >= maxUnasked && t.chanceOf(t.unasked, 1) <= otherwise.chance; t.mute {
		t.log.Warn("server does not say whether it has this report; it may arrive twice", "job", t.job.ID, "report", t.report.what, "err", err)
	}
}

// isFinal reports whether err is the server's own refusal that no retry changes.
func (t *trial) isFinal(err error) bool {
	rejected, ok := errors.AsType[*reporter.RejectedError](err)
	if !ok {
		return false
	}
	waits := t.report.patient && rejected.Code == http.StatusForbidden && time.Since(t.begun) < patience
	return !waits
}

// failed counts a failure.
func (t *trial) failed(err error) {
	now, failed := t.breaker.counts()
	if t.failures == 0 {
		t.firstAt, t.successes, t.failedBefore = time.Now(), now, failed
	}
	t.failures++
	t.latest = now
	if t.failures >= heartbeatAfter {
		t.cfg.Heartbeat()
	}
	t.log.Debug("report not accepted, retrying", "job", t.job.ID, "report", t.report.what, "err", err)
	if !t.warned && time.Since(t.begun) > warnAfter && t.cfg.Reachable() {
		t.warned = true
		t.setStuck(t.job, fmt.Sprintf("The server does not take its %s, though it takes heartbeats: %s", t.report.what, base.Printable(err.Error(), 300)))
		t.log.Warn("report not accepted, though heartbeats are; retrying", "job", t.job.ID, "report", t.report.what, "err", err)
	}
}

// isRefusedAlone reports whether err and the failures before it mean that this report
// is refused while others get through.
func (t *trial) isRefusedAlone(err error) bool {
	limit := t.threshold(err)
	switch {
	case t.asking, t.failures < limit.failures, time.Since(t.firstAt) < limit.after:
		return false
	case t.report.patient && !t.cfg.Reachable():
		return false // heartbeats need the same token
	}
	return t.chance() <= limit.chance && (t.refusedBefore || t.breaker.succeeded() > t.successes)
}

// chance returns how probable it is that a try fails as often as this report has failed.
// A try is two requests if it asks first.
func (t *trial) chance() float64 {
	if t.report.accepted != nil {
		return t.chanceOf(t.failures, 2)
	}
	return t.chanceOf(t.failures, 1)
}

// chanceOf returns how probable it is that n tries of so many requests each fail, by
// what became of other requests since the first failure, with each rate of failure
// equally probable beforehand: the more of them got through, the less.
func (t *trial) chanceOf(n, requests int) float64 {
	now, failed := t.breaker.counts()
	through := float64(now-t.successes) / float64(requests)
	others := float64(max(0, failed-t.failedBefore-(t.failures-1)))
	p := 1.0
	for i := range n {
		p *= (others + 1 + float64(i)) / (others + through + 2 + float64(i))
	}
	return p
}

// threshold returns how often and how long a report fails like err before it counts
// as refused.
func (t *trial) threshold(err error) threshold {
	_, later := errors.AsType[*reporter.RetryAfterError](err)
	_, blocked := errors.AsType[*reporter.BlockedError](err)
	switch {
	case later:
		return otherwise
	case blocked && t.refusedBefore:
		return whenBlockedAgain
	case blocked:
		return whenBlocked
	case errors.Is(err, reporter.ErrServerFailed) && t.report.patient:
		return whenFailed
	case t.refusedBefore && !isDenied(err):
		return otherwiseAgain
	}
	return otherwise
}

// isDenied reports whether err is about the permission to send and not about what is
// sent.
func isDenied(err error) bool {
	rejected, ok := errors.AsType[*reporter.RejectedError](err)
	return ok && rejected.Code == http.StatusForbidden || errors.Is(err, heartbeat.ErrUnauthorized)
}

// wait returns how long the report waits by itself before the next try. During an
// outage it lets others find out first whether that is over: it may be refused alone.
func (t *trial) wait(err error) time.Duration {
	_, rejected := errors.AsType[*reporter.RejectedError](err)
	_, blocked := errors.AsType[*reporter.BlockedError](err)
	if until := t.breaker.closesAt(); !until.IsZero() && !rejected && !blocked {
		return time.Until(until) + othersFirst
	}
	return t.retry.NextBackOff()
}

// succeeded says in the log that a report got through that was warned of.
func (t *trial) succeeded() {
	if t.warned {
		t.log.Info("report accepted after retries", "job", t.job.ID, "report", t.report.what, "took", time.Since(t.begun).Round(time.Second))
	}
}

// unstick withdraws what failed said in the job's status.
func (t *trial) unstick() {
	if t.warned {
		t.setStuck(t.job, "")
	}
}
