package agent

import (
	"fmt"
	"net/http"
	"time"
)

// refusedEvery is how long reports wait that the server had no permission for: it
// may have been the word of a proxy before it, or of a token that is set right
// meanwhile.
const refusedEvery = 15 * time.Minute

// refused takes the server's final word: it is said once, and what was refused
// stays on this machine.
func (c *courier) refused(r report, refused *RefusedError) {
	// What is to be done about it stands at its end.
	warning := fmt.Sprintf("The server refuses reports (%d: %s)", refused.Status, printableUpTo(500, refused.Message))
	c.a.sayOnce(warning, func() {
		c.a.log.Error("server refuses reports; what it refused is kept on this machine",
			"job", c.j.id, "report", r.what, "status", refused.Status, "err", refused)
	})
	c.a.warn(warning)
	if refused.Status == http.StatusForbidden {
		c.away = warning
	}
	c.note(func(l *ledger) { l.Refused = printable(refused.Message) })
}

// noteRefusal has what was turned away for want of permission tried again later,
// or takes the server's word back once all has gone through.
func (c *courier) noteRefusal() {
	if c.away != "" {
		c.j.turnAway(c.away, time.Now().Add(refusedEvery))
		return
	}
	if !c.d.get().settled() {
		return
	}
	if warning := c.j.turnBack(); warning != "" {
		c.a.retract(warning)
		c.a.log.Info("server takes the reports that it had refused", "job", c.j.id)
	}
}

// retryRefused has the reports delivered that the server turned away for want of
// permission, once that is a while ago.
func (a *Agent) retryRefused() {
	now := time.Now()
	for _, j := range a.allJobs() {
		if j.retryDue(now) {
			a.dispatchCourier(j)
		}
	}
}

// turnAway notes that the server turned reports of the job away, with what word,
// and when they are to be tried again.
func (j *job) turnAway(refusal string, again time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refusal, j.again = refusal, again
}

// turnBack notes that the server has taken the reports, and returns the word on
// them that stood until now.
func (j *job) turnBack() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	was := j.refusal
	j.refusal = ""
	return was
}

// retryDue reports, once, whether it is time to try refused reports again.
func (j *job) retryDue(now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	due := !j.again.IsZero() && now.After(j.again)
	if due {
		j.again = time.Time{}
	}
	return due
}
