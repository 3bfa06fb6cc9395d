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

// retryRefused is when reports are sent again that were refused while others got
// through.
const retryRefused = 2 * time.Minute

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
		s.rejection, s.retryIn = warning, retryRejected
	}
	s.checkpoint(func(c *checkpoint) { c.Rejected = base.Printable(rejected.Message, 80) })
}

// leaveForLater records that a report alone is refused in every form, while others get
// through. It stays on this machine and is sent again later.
func (s *sender) leaveForLater(r report, cause error) {
	text := base.Printable(cause.Error(), 500)
	warning := fmt.Sprintf("Reports are refused on their way to the server, while others get through (%s). "+
		"They are kept on this machine and sent again later", text)
	s.cfg.Notices.LogOnce(warning, func() {
		s.log.Error("report refused while others get through, sending it again later",
			"job", s.job.ID, "report", r.what, "err", text, "in", retryRefused)
	})
	s.cfg.Notices.Warn(warning)
	s.rejection, s.retryIn = warning, retryRefused
	s.checkpoint(func(c *checkpoint) { c.Rejected = base.Printable(text, 80) })
}

// refusedLine records that the server got a note in place of a line.
func (s *sender) refusedLine(cause error) {
	s.log.Warn("a line of the log is refused while others get through; the server got a note in its place",
		"job", s.job.ID, "err", cause)
	s.refusedPart(cause, func(c *checkpoint) { c.RefusedLines++ })
}

// refusedData records that the server got the result without its data.
func (s *sender) refusedData(cause error) {
	s.log.Warn("result is refused with its data, sent without; the data is kept",
		"job", s.job.ID, "file", s.job.Path(jobs.ResultFile), "err", cause)
	s.refusedPart(cause, func(c *checkpoint) { c.RefusedData = true })
}

// refusedReason records that the server got the final status without its reason.
func (s *sender) refusedReason(cause error) {
	s.log.Warn("status is refused with its reason, sent without", "job", s.job.ID, "err", cause)
	s.refusedPart(cause, func(c *checkpoint) { c.RefusedReason = true })
}

func (s *sender) refusedPart(cause error, count func(*checkpoint)) {
	s.checkpoint(func(c *checkpoint) {
		count(c)
		c.Rejected = base.Printable(cause.Error(), 80)
	})
	s.setRefused(s.job, s.file.get())
}

// deferRejected schedules reports that were rejected or refused for another try, or
// withdraws the warning once all are accepted.
func (s *sender) deferRejected() {
	complete := s.file.get().complete()
	s.mu.Lock()
	status := s.statusLocked(s.job)
	withdrawn := ""
	switch {
	case s.rejection != "":
		status.rejection, status.retryAt = s.rejection, time.Now().Add(s.retryIn)
	case complete:
		withdrawn, status.rejection = status.rejection, ""
	}
	s.mu.Unlock()
	if withdrawn != "" {
		s.cfg.Notices.Withdraw(withdrawn)
		s.log.Info("server accepts the reports that it had refused", "job", s.job.ID)
	}
}

// RetryRejected sends the reports again that were rejected with 403 or refused, if
// that was a while ago.
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
