package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	// pollEvery is the time between looks at the agent's problems, and settleFor how
	// long a problem, or its absence, has to last.
	pollEvery = 10 * time.Second
	settleFor = time.Minute

	logLines    = 20  // of a job's log in a notification
	maxLine     = 500 // characters of each of them
	maxText     = 2000
	tailTimeout = 10 * time.Second // for reading them
)

// watchJobs makes notifications of jobs that end, first of those that ended while nobody
// watched.
func (n *Notifier) watchJobs(ctx context.Context, a Agent, events iter.Seq[agent.Event]) {
	caughtUp := false
	for e := range events {
		if !caughtUp || e.Kind == agent.EventLost {
			n.catchUp(ctx, a)
			caughtUp = true
		}
		if e.Kind != agent.EventEnded {
			continue
		}
		if j, err := a.Job(e.JobID); err == nil {
			n.jobEnded(ctx, a, j)
		}
	}
}

// catchUp makes notifications of the jobs that have ended since the latest known one.
func (n *Notifier) catchUp(ctx context.Context, a Agent) {
	ended := slices.DeleteFunc(a.Jobs(), func(j agent.JobStatus) bool { return !j.State.Ended() || n.state.knows(j) })
	slices.SortFunc(ended, func(x, y agent.JobStatus) int { return x.EndedAt.Compare(y.EndedAt) })
	for _, j := range ended {
		n.jobEnded(ctx, a, j)
	}
}

// jobEnded makes a notification of j, unless there was one.
func (n *Notifier) jobEnded(ctx context.Context, a Agent, j agent.JobStatus) {
	event, title := describe(j)
	if !n.wants(event) {
		n.state.addJob(j, nil)
		return
	}
	s := a.Status()
	note := n.note(event, s.Name, j.CommandID, j.EndedAt)
	note.Title = fmt.Sprintf("%s: %s: %s", s.Name, title, cmp.Or(j.Model, j.Engine, j.CommandID))
	note.Cause, note.Remedy = j.Error, j.Fix
	if event == IntegrityInvalid {
		note.Cause, note.Remedy = j.Integrity.Text, "do not use the figures of this run; integrity.json in its results has the reasons and what to do about them"
	}
	note.Job = &Job{
		CommandID: j.CommandID, TestID: j.TestID, Type: j.Type, Model: j.Model, Engine: j.Engine, Suite: j.Suite,
		State: string(j.State), Class: j.Class, CancelledBy: j.CancelledBy,
	}
	if j.Integrity != nil {
		note.Job.Integrity = j.Integrity.Verdict
	}
	if !j.StartedAt.IsZero() {
		note.Job.DurationS = j.EndedAt.Sub(j.StartedAt).Seconds()
	}
	if event == JobFailed {
		tailing, cancel := context.WithTimeout(ctx, tailTimeout)
		defer cancel()
		note.Log, _ = a.LogTail(tailing, j.CommandID, logLines) // a job may have none
	}
	if n.state.addJob(j, n.redacted(note)) {
		n.added.Send()
	}
}

// describe returns what is told of a job that ended, and a few words for it.
func describe(j agent.JobStatus) (Event, string) {
	what := "job"
	if j.Type != agent.TypeRunTest {
		what = j.Type // such as start_engine
	}
	switch {
	case j.State == agent.StateFailed:
		return JobFailed, what + " failed"
	case j.State == agent.StateCancelled:
		return JobCancelled, what + " cancelled"
	case j.Integrity != nil && integrity.Grade(j.Integrity.Verdict) == integrity.Invalid:
		return IntegrityInvalid, "figures are invalid"
	}
	return JobCompleted, what + " completed"
}

// watchProblems makes notifications of problems that begin and end, until ctx is done.
func (n *Notifier) watchProblems(ctx context.Context, a Agent) {
	differs := map[health.Reason]time.Time{} // since when a reason differs from what was told
	for {
		n.compareProblems(a, differs, time.Now())
		if base.Wait(ctx, pollEvery) != nil {
			return
		}
	}
}

// compareProblems compares the agent's problems with those that were told last.
func (n *Notifier) compareProblems(a Agent, differs map[health.Reason]time.Time, now time.Time) {
	current := map[health.Reason]health.Problem{}
	for _, p := range a.Problems() {
		if p.Reason == health.Stopping || p.Reason == health.Stopped {
			return // a stop is no trouble, and hides what is
		}
		current[p.Reason] = p
	}
	told := n.state.told()
	reasons := make([]health.Reason, 0, len(current)+len(told))
	for reason := range current {
		reasons = append(reasons, reason)
	}
	for reason := range told {
		if _, ok := current[reason]; !ok {
			reasons = append(reasons, reason)
		}
	}
	slices.Sort(reasons)
	maps.DeleteFunc(differs, func(reason health.Reason, _ time.Time) bool { return !slices.Contains(reasons, reason) })
	for _, reason := range reasons {
		problem, is := current[reason]
		if _, was := told[reason]; is == was {
			delete(differs, reason)
			continue
		}
		if differs[reason].IsZero() {
			differs[reason] = now
		}
		if now.Sub(differs[reason]) < settleFor {
			continue
		}
		delete(differs, reason)
		n.problemChanged(a.Status().Name, reason, problem, is, now)
	}
}

// problemChanged makes a notification of a problem that began, or that is over.
func (n *Notifier) problemChanged(name string, reason health.Reason, p health.Problem, began bool, now time.Time) {
	event := Recovered
	if began {
		event = Degraded
	}
	var note *Notification
	if n.wants(event) {
		made := n.note(event, name, string(reason), now)
		made.Reason = string(reason)
		if began {
			made.Title = fmt.Sprintf("%s: degraded: %s", name, p.Text)
			made.Cause, made.Remedy, made.Blocks = p.String(), p.Remedy, p.Blocks
		} else {
			made.Title = fmt.Sprintf("%s: recovered: %s", name, reason)
			made.Cause = fmt.Sprintf("it is no longer so that %s", health.New(reason, "").Text)
		}
		note = n.redacted(made)
	}
	if n.state.setTold(reason, began, note) {
		n.added.Send()
	}
}

func (n *Notifier) wants(e Event) bool { return slices.Contains(n.cfg.Events, e) }

// note returns a notification with an ID that follows from what it is about.
func (n *Notifier) note(event Event, name, about string, at time.Time) Notification {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", name, event, about, at.UnixNano()))
	return Notification{ID: hex.EncodeToString(sum[:16]), Event: event, Time: at.UTC(), Agent: name}
}

// redacted returns note without secrets, and with texts that can be printed and are not
// too long.
func (n *Notifier) redacted(note Notification) *Notification {
	clean := func(text string, limit int) string { return base.Printable(n.secrets.Text(text), limit) }
	for _, text := range []*string{&note.Title, &note.Cause, &note.Remedy} {
		*text = clean(*text, maxText)
	}
	if note.Job != nil {
		j := *note.Job
		for _, text := range []*string{&j.Type, &j.Model, &j.Engine, &j.Suite, &j.Class, &j.TestID, &j.CancelledBy, &j.Integrity} {
			*text = clean(*text, maxLine)
		}
		note.Job = &j
	}
	lines := make([]string, len(note.Log))
	for i, line := range note.Log {
		lines[i] = clean(line, maxLine)
	}
	note.Log = lines
	return &note
}
