package outbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
)

var (
	// errDraining ends a sender when the agent stops.
	errDraining = errors.New("stopping")

	// errRejected ends a report that the server rejected for good. The next start
	// sends it again, since the configuration may have been wrong; one without
	// permission is sent again before that.
	errRejected = errors.New("rejected")

	// errSplit ends a report that holds several and is refused: each is to be sent by
	// itself.
	errSplit = errors.New("refused together")

	// errUnanswered ends a question that the server does not answer, though it answers
	// others.
	errUnanswered = errors.New("not answered")
)

// A sender sends the reports of one job, one after another. Its methods take two
// contexts: when drain is done, they no longer wait for what has yet to happen;
// when ctx is done, they return at once.
type sender struct {
	*Outbox
	job  *jobs.Job
	file *checkpointFile
	ask  reporter.Inquirer // nil if the server cannot be asked

	hasSlot   bool
	rejection string        // why reports were rejected that are to be sent again later
	retryIn   time.Duration // when that is

	askFirst      bool // whether the server may hold more than the checkpoint says
	refusedBefore bool // whether a report of this job was refused for what it held
}

// send sends all reports of j, each after the one before is accepted. It returns
// early only when the agent stops.
func (o *Outbox) send(ctx, drain context.Context, j *jobs.Job) {
	s := &sender{Outbox: o, job: j}
	s.ask, _ = reporter.As[reporter.Inquirer](o.cfg.Reporter)
	// Jobs that wait keep no file open: there may be thousands.
	if s.awaitStart(ctx, drain) != nil {
		return
	}
	defer s.releaseSlot()
	if j.State().Ended() && s.acquireSlot(ctx, drain) != nil {
		return
	}
	file, err := openCheckpoint(j.Path(jobs.DeliveryFile))
	if err != nil {
		o.log.Warn("checkpoint is kept in memory only", "job", j.ID, "err", err)
	}
	s.file = file
	defer file.Close()
	s.askFirst = j.Recovered
	if o.takeRepeat(j) {
		s.askFirst = true
		s.checkpoint(func(c *checkpoint) { *c = checkpoint{Version: checkpointVersion} })
	}
	steps := []func(ctx, drain context.Context) error{
		s.findTest, s.skipWithoutTest, s.sendRunning, s.sendLog, s.awaitEnd, s.sendResult, s.sendFinalStatus,
	}
	for _, step := range steps {
		if j.State().Ended() {
			if err := s.acquireSlot(ctx, drain); err != nil {
				return
			}
		}
		err := step(ctx, drain)
		switch {
		case err == nil, errors.Is(err, errRejected):
		case ctx.Err() != nil, errors.Is(err, errDraining):
			return // the agent stops; the next start continues from the checkpoint
		default:
			o.log.Error("part of the reports is not sent", "job", j.ID, "err", err)
		}
	}
	if err := file.sync(); err != nil {
		o.log.Warn("checkpoint not synced", "job", j.ID, "err", err)
	}
	s.deferRejected()
	o.setDelivered(j, file.get().complete())
	o.cfg.Delivered(j)
}

// acquireSlot waits for one of the few slots for jobs that have ended. A job whose
// benchmark runs needs none.
func (s *sender) acquireSlot(ctx, drain context.Context) error {
	if s.hasSlot {
		return nil
	}
	select { // a free slot is taken, even while the agent stops
	case s.slots <- struct{}{}:
		s.hasSlot = true
		return nil
	default:
	}
	select {
	case s.slots <- struct{}{}:
		s.hasSlot = true
		return nil
	case <-drain.Done():
		return errDraining
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *sender) releaseSlot() {
	if s.hasSlot {
		<-s.slots
		s.hasSlot = false
	}
}

// awaitStart waits until the job has left the queue.
func (s *sender) awaitStart(ctx, drain context.Context) error {
	return s.await(ctx, drain, func() bool { return s.job.State() != jobs.StateAccepted })
}

// awaitEnd waits until the job has ended.
func (s *sender) awaitEnd(ctx, drain context.Context) error {
	return s.await(ctx, drain, func() bool { return s.job.State().Ended() })
}

func (s *sender) await(ctx, drain context.Context, ready func() bool) error {
	for {
		changed := s.job.Changed()
		if ready() {
			return nil
		}
		if drain.Err() != nil {
			return errDraining
		}
		select {
		case <-changed:
		case <-drain.Done(): // once more: what happened before it counts
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// findTest asks the server which test the job belongs to, if the job's own record
// of it was lost.
func (s *sender) findTest(ctx, drain context.Context) error {
	if !s.job.Record().AskTest || s.file.get().complete() {
		return nil
	}
	finder, ok := reporter.As[reporter.TestFinder](s.cfg.Reporter)
	if !ok {
		return nil
	}
	var id string
	err := s.report(ctx, drain, report{
		what: "question for the test",
		send: func(ctx context.Context) (err error) {
			id, err = finder.FindTest(ctx, s.cfg.AgentName, s.job.ID)
			return err
		},
		done:    func(*checkpoint) {},
		endless: func() bool { return true }, // without a test nothing else can be sent
	})
	if err != nil {
		return err
	}
	return s.job.Update(func(rec *jobs.Record) { rec.TestID, rec.AskTest = jobs.Cut(id, maxTestID), false })
}

// maxTestID bounds the id of a test, in bytes; the server's own have 16.
const maxTestID = 256

// skipWithoutTest marks as accepted what only tests have: nobody waits for the
// status or the log of a job without one.
func (s *sender) skipWithoutTest(_, _ context.Context) error {
	if s.job.TestID() == "" {
		s.checkpoint(func(c *checkpoint) { c.Started, c.Log, c.Terminal = true, true, true })
	}
	return nil
}

// sendRunning tells the server that the test runs, unless the job ended without
// that. A test that was stopped on the server meanwhile is not set running again:
// the agent never takes a step back.
func (s *sender) sendRunning(ctx, drain context.Context) error {
	if rec := s.job.Record(); s.file.get().Started || rec.State.Ended() && rec.StartedAt.IsZero() {
		return nil
	}
	err := s.report(ctx, drain, report{
		what: "status running",
		accepted: func(ctx context.Context) (bool, error) {
			test, err := s.test(ctx)
			if err == nil && test.Status.Ended() {
				s.cfg.Stopped(s.job, test)
			}
			return test.Status == reporter.Running || test.Status.Ended(), err
		},
		askFirst: true,
		send: func(ctx context.Context) error {
			return s.cfg.Reporter.ReportStatus(ctx, s.job.TestID(), reporter.Running, "")
		},
		done: func(c *checkpoint) { c.Started = true },
	})
	if err == nil {
		s.stopReopened(ctx)
	}
	return err
}

// stopReopened stops a job whose test was stopped on the server between the look at
// it and the report that it runs, which the server accepts. If the server doesn't
// answer now, the next look at the active tests finds it.
func (s *sender) stopReopened(ctx context.Context) {
	if test, err := s.test(ctx); err == nil && test.Reopened {
		s.cfg.Stopped(s.job, test)
	}
}

// test returns the server's record of the job's test, an empty one if the server
// cannot be asked.
func (s *sender) test(ctx context.Context) (reporter.Test, error) {
	if s.ask == nil {
		return reporter.Test{}, nil
	}
	return s.ask.Test(ctx, s.job.TestID())
}

// sendLog sends the log from the first line that isn't accepted to its end.
func (s *sender) sendLog(ctx, drain context.Context) error {
	if s.file.get().Log {
		return nil
	}
	if !s.job.Log.Exists() {
		s.checkpoint(func(c *checkpoint) { c.Log = true }) // it ended in the queue
		return nil
	}
	log, release, err := s.cfg.OpenLog(s.job)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer release()
	l := &logSender{sender: s, log: log}
	return l.run(ctx, drain)
}

// sendResult sends the job's result.
func (s *sender) sendResult(ctx, drain context.Context) error {
	if s.file.get().Result {
		return nil
	}
	result, err := s.result(drain)
	if err != nil {
		return err
	}
	defer result.Close()
	return s.report(ctx, drain, report{
		what: "result",
		// An agent before this one may have sent it, even if the checkpoint is lost.
		askFirst: s.file.get().Tried || s.askFirst,
		accepted: func(ctx context.Context) (bool, error) {
			return result.known(ctx, s.ask)
		},
		send:     func(ctx context.Context) error { return s.sendOnce(ctx, result) },
		patient:  true, // the status comes after it
		reduced:  result.sendWithoutData(s),
		replaced: s.refusedData,
		done:     func(c *checkpoint) { c.Result = true },
	})
}

// sendOnce sends result once.
func (s *sender) sendOnce(ctx context.Context, result *outgoingResult) error {
	s.checkpoint(func(c *checkpoint) { c.Tried = true })
	id := s.cfg.AgentID()
	err := result.send(ctx, s.cfg.Reporter, id)
	if rejected, ok := errors.AsType[*reporter.RejectedError](err); ok && rejected.Code == http.StatusNotFound {
		// The server has forgotten the agent; the next heartbeat registers it.
		s.cfg.Reregister()
		return fmt.Errorf("agent %s: %v", id, rejected)
	}
	return err
}

// result opens the job's report, and waits out an error of the machine until drain is
// done. One that cannot be read is made from the job's record, without data.
func (s *sender) result(drain context.Context) (*outgoingResult, error) {
	waiting := func(err error) { s.log.Warn("result waits for its file", "job", s.job.ID, "err", err) }
	result, err := base.Persist(drain, waiting, func() (*outgoingResult, error) {
		return openResult(s.job.Path(jobs.ResultFile), s.cfg.Reporter, func(change string) {
			s.log.Warn("result changed before it is sent", "job", s.job.ID, "change", change)
		})
	})
	if base.Transient(err) {
		return nil, errDraining
	}
	if err != nil {
		s.log.Warn("result not read, sending it without its data", "job", s.job.ID, "err", err)
		o := s.job.Record().Outcome
		return &outgoingResult{encoded: reporter.EncodedResult{
			CommandID: s.job.Command.ID, Status: statusOf(o.State), ContainerID: o.ContainerID, Error: o.Error,
		}}, nil
	}
	return result, nil
}

// sendFinalStatus tells the server how the test ended. A test that somebody stopped
// on the server has its end: it gets no second one, even if the benchmark ended
// before the agent heard of it.
func (s *sender) sendFinalStatus(ctx, drain context.Context) error {
	if s.file.get().Terminal {
		return nil
	}
	outcome := s.job.Record().Outcome
	status := statusOf(outcome.State)
	return s.report(ctx, drain, report{
		what:     "status " + string(status),
		askFirst: true,
		accepted: func(ctx context.Context) (bool, error) {
			test, err := s.test(ctx)
			return test.Status.Ended(), err
		},
		send: func(ctx context.Context) error {
			return s.cfg.Reporter.ReportStatus(ctx, s.job.TestID(), status, outcome.Error)
		},
		reduced:  s.statusWithoutReason(status, outcome.Error),
		replaced: s.refusedReason,
		done:     func(c *checkpoint) { c.Terminal = true },
	})
}

// statusWithoutReason returns what sends the final status without its reason, in which
// a proxy may find something; nil if there is none.
func (s *sender) statusWithoutReason(status reporter.Status, reason string) func(context.Context) error {
	if reason == "" {
		return nil
	}
	return func(ctx context.Context) error {
		return s.cfg.Reporter.ReportStatus(ctx, s.job.TestID(), status, "The reason is in the agent's log of this job")
	}
}

// statusOf returns the status that the server knows for a job that has ended. It
// knows none for cancelled.
func statusOf(state jobs.State) reporter.Status {
	if state == jobs.StateCompleted {
		return reporter.Completed
	}
	return reporter.Failed
}

// checkpoint changes the job's checkpoint.
func (s *sender) checkpoint(change func(*checkpoint)) {
	if err := s.file.set(change); err != nil {
		s.cfg.Notices.LogOnce("checkpoint", func() { s.log.Warn("checkpoint not written", "job", s.job.ID, "err", err) })
	}
}
