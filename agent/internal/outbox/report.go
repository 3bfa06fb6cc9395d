package outbox

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

// warnAfter is how long a report fails, while heartbeats get through, before it is
// logged as a warning.
const warnAfter = 2 * time.Minute

// A report is one request to the server.
type report struct {
	what string // for the agent's log

	// accepted asks the server whether it knows already. It is called before the
	// first try if askFirst is set, and before each try after one whose outcome is
	// in doubt.
	accepted func(context.Context) (bool, error)
	askFirst bool

	send func(context.Context) error

	// reduced, if set, sends a smaller form of the report. It is called right after
	// send has failed, once there is reason to believe that this report alone is
	// refused. If reduced gets through, that is proved, and replaced is called with
	// what send failed with.
	reduced  func(context.Context) error
	replaced func(cause error)

	// splits says that the report is several in one. If it alone is refused, the
	// error is errSplit.
	splits bool

	// endless says that the report is sent until it gets through, whatever others do.
	endless func() bool

	// patient says that the server's own refusal for want of permission is waited
	// out for a while: nothing may be sent before this report.
	patient bool

	question bool // whether nothing is reported, only asked

	done func(*checkpoint) // what to record once it is accepted
}

// report sends one report and retries until it is accepted or found to be known.
// The error is errRejected if the server rejects it, or if it alone is refused in
// every form; errSplit if it is to be sent in parts; errUnanswered for a question. Any other error means that the
// agent stops.
func (s *sender) report(ctx, drain context.Context, r report) error {
	t := s.newTrial(r)
	defer t.unstick()
	for {
		err := s.breaker.doSince(ctx, t.since(), t.attempt)
		if err == nil {
			t.succeeded()
			s.checkpoint(r.done)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if t.isFinal(err) {
			return s.rejectedAlone(ctx, t, err)
		}
		if drain.Err() != nil {
			return errDraining
		}
		t.failed(err)
		if t.isRefusedAlone(err) {
			if settled, err := s.settle(ctx, t, err); settled {
				return err
			}
		}
		if wait := t.wait(err); wait > 0 && base.Wait(drain, wait) != nil {
			return errDraining
		}
	}
}

// rejectedAlone tries the reduced form of a report that the server rejected itself,
// and gives the report up if that is rejected, too.
func (s *sender) rejectedAlone(ctx context.Context, t *trial, err error) error {
	rejected, _ := errors.AsType[*reporter.RejectedError](err)
	if !t.asking && s.concernsContent(rejected) {
		if t.report.splits {
			return errSplit
		}
		if t.report.reduced != nil && s.sendReduced(ctx, t, err) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	s.rejected(t.report, rejected)
	return errRejected
}

// concernsContent reports whether the server may have rejected a report for what it
// holds. It has accepted another one of the job, so it is not for want of permission.
func (s *sender) concernsContent(rejected *reporter.RejectedError) bool {
	return rejected.Code != http.StatusNotFound && s.rejection == "" && s.file.get().Started
}

// settle decides about a report that seems to be refused alone. It reports whether
// the report is settled, and with which error.
func (s *sender) settle(ctx context.Context, t *trial, cause error) (settled bool, err error) {
	if !isDenied(cause) {
		if t.report.splits {
			return true, errSplit
		}
		if t.report.reduced != nil && s.sendReduced(ctx, t, cause) {
			return true, nil
		}
		if ctx.Err() != nil {
			return true, ctx.Err()
		}
		t.rounds++
		if t.report.reduced != nil && (t.rounds < refusedRounds || time.Since(t.firstAt) < otherwise.after) {
			return false, nil
		}
	}
	if t.report.endless != nil && t.report.endless() {
		return false, nil
	}
	if t.report.question {
		return true, errUnanswered
	}
	s.leaveForLater(t.report, cause)
	return true, errRejected
}

// sendReduced sends the reduced form of a report right after the report itself has
// failed with cause, and reports whether the server took it, or has the report.
func (s *sender) sendReduced(ctx context.Context, t *trial, cause error) bool {
	if t.report.accepted != nil && t.inDoubt {
		if known, err := t.report.accepted(ctx); err == nil && known {
			s.checkpoint(t.report.done)
			return true
		}
	}
	if err := t.report.reduced(ctx); err != nil {
		s.log.Debug("report refused in its reduced form too", "job", s.job.ID, "report", t.report.what, "err", err)
		return false
	}
	s.checkpoint(t.report.done)
	t.report.replaced(cause)
	s.refusedBefore = true
	return true
}
