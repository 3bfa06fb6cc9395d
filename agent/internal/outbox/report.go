package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/kirizan/kitt-agent/agent/reporter"
)

// shrinkAfter is after how many failures of one report, while others get through,
// it is sent in a smaller form.
const shrinkAfter = 3

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

	// shrink, if set, is called when the server fails at this report several
	// times while it accepts others. It reports whether the report was changed so
	// that it is worth another try.
	shrink func() bool

	done func(*checkpoint) // what to record once it is accepted
}

// report sends one report and retries until it is accepted or found to be known.
// The error is errRejected if the server rejects it for good; any other error means
// that the agent stops.
func (s *sender) report(ctx, drain context.Context, r report) error {
	inDoubt := r.askFirst
	failures, begun, warned := 0, time.Now(), false
	for {
		successes := s.breaker.succeeded()
		err := s.breaker.do(ctx, func(ctx context.Context) error {
			if inDoubt && r.accepted != nil {
				if known, err := r.accepted(ctx); err != nil || known {
					return err
				}
			}
			return r.send(ctx)
		})
		if err == nil {
			if warned {
				s.log.Info("report accepted after retries", "job", s.job.ID, "report", r.what, "took", time.Since(begun).Round(time.Second))
			}
			s.checkpoint(r.done)
			return nil
		}
		if rejected, ok := errors.AsType[*reporter.RejectedError](err); ok {
			s.rejected(r, rejected)
			return errRejected
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if drain.Err() != nil {
			return errDraining
		}
		inDoubt = true
		s.log.Debug("report not accepted, retrying", "job", s.job.ID, "report", r.what, "err", err)
		if !warned && time.Since(begun) > warnAfter && s.cfg.Reachable() {
			warned = true
			s.log.Warn("report not accepted, though heartbeats are; retrying", "job", s.job.ID, "report", r.what, "err", err)
		}
		if !errors.Is(err, reporter.ErrServerFailed) || r.shrink == nil {
			continue
		}
		if failures++; failures >= shrinkAfter && s.breaker.succeeded() > successes && r.shrink() {
			failures = 0
		}
	}
}
