package outbox

import (
	"fmt"
	"net/http"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

// retryRejected is when reports are sent again that the server rejected with 403:
// a proxy in front of it may have answered, or the token may be right by then.
const retryRejected = 15 * time.Minute

// rejected records that the server rejected a report. It is logged once, and the
// report stays on this machine.
func (s *sender) rejected(r report, rejected *reporter.RejectedError) {
	// The end of the message says what to do about it.
	warning := fmt.Sprintf("The server refuses reports (%d: %s)", rejected.Code, base.Printable(rejected.Message, 500))
	s.cfg.Notices.LogOnce(warning, func() {
		s.log.Error("server refuses reports; what it refused is kept on this machine",
			"job", s.job.ID, "report", r.what, "status", rejected.Code, "err", rejected)
	})
	s.cfg.Notices.Warn(warning)
	if rejected.Code == http.StatusForbidden {
		s.rejection = warning
	}
	s.checkpoint(func(c *checkpoint) { c.Rejected = base.Printable(rejected.Message, 80) })
}

// deferRejected schedules reports that were rejected with 403 for another try, or
// withdraws the warning once all are accepted.
func (s *sender) deferRejected() {
	complete := s.file.get().complete()
	s.mu.Lock()
	status := s.statusLocked(s.job)
	withdrawn := ""
	switch {
	case s.rejection != "":
		status.rejection, status.retryAt = s.rejection, time.Now().Add(retryRejected)
	case complete:
		withdrawn, status.rejection = status.rejection, ""
	}
	s.mu.Unlock()
	if withdrawn != "" {
		s.cfg.Notices.Withdraw(withdrawn)
		s.log.Info("server accepts the reports that it had refused", "job", s.job.ID)
	}
}

// RetryRejected sends the reports again that the server rejected with 403, if that
// was a while ago.
func (o *Outbox) RetryRejected() {
	for _, j := range o.dueForRetry(time.Now()) {
		o.Deliver(j)
	}
}

func (o *Outbox) dueForRetry(now time.Time) (due []*jobs.Job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for j, s := range o.status {
		if !s.retryAt.IsZero() && now.After(s.retryAt) {
			s.retryAt = time.Time{}
			due = append(due, j)
		}
	}
	return due
}
