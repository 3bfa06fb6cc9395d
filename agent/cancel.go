package agent

import (
	"context"
	"errors"
	"time"
)

// Errors of Cancel.
var (
	// ErrNoJob is matched by errors about a command or test that the agent has
	// no job for.
	ErrNoJob = errors.New("no such job")

	// ErrEnded is matched by the error of a Cancel that came after the end.
	ErrEnded = errors.New("the job has ended already")

	// ErrStopping is matched by the error of a Cancel that the end of Run
	// overtook. The request is on disk, and the next start carries it out.
	ErrStopping = errors.New("the agent stops; its next start ends the job")
)

// Cancel stops the job of the command or test with the given id, on behalf of
// by, which the report names: a job that waits is taken out of the line, a
// benchmark that runs is ended, first politely and after Config.StopGrace by
// force. It returns once the job has ended, or when ctx is done, which doesn't
// take the request back. While Run isn't running the error matches
// [ErrNotAccepting].
func (a *Agent) Cancel(ctx context.Context, id, by string) error {
	run, leave, err := a.visit()
	if err != nil {
		return err
	}
	defer leave()
	j := a.find(id)
	if j == nil {
		return ErrNoJob
	}
	if err := a.cancel(j, cancellation{By: by}); err != nil {
		return err
	}
	for {
		changed := j.changes.wait()
		if j.over() {
			return nil
		}
		select {
		case <-changed:
		case <-run.Done():
			return ErrStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// find returns the job of the command or test with the given id, nil if there
// is none.
func (a *Agent) find(id string) *job {
	if id == "" {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if safe, _ := safeID(id); a.jobs[safe] != nil {
		return a.jobs[safe]
	}
	// Of several jobs of one test the one that can still be stopped is meant.
	var found *job
	for _, j := range a.jobs {
		if j.testID() == id && (found == nil || found.state().Ended()) {
			found = j
		}
	}
	return found
}

// cancel writes down that j is to be stopped, then stops it.
func (a *Agent) cancel(j *job, c cancellation) error {
	c.At = time.Now()
	if c.By == "" {
		c.By = "user"
	}
	if j.state().Ended() {
		return ErrEnded
	}
	if j.cancelled() == nil {
		// Written first: a crash from here on ends the job at the next start.
		if err := j.update(func(rec *record) { rec.Cancel = &c }); err != nil {
			a.log.Warn("cancel not written", "job", j.id, "err", err)
		}
		a.log.Info("cancelling job", "job", j.id, "by", c.By)
	}
	if a.queue.remove(j) {
		a.concludeWaiting(j, cancelledOutcome(j.cancelled()))
	} else {
		j.stopWith(errCancelled)
	}
	return nil
}

// stopWith ends the job's turn for the given reason, if it has one.
func (j *job) stopWith(cause error) {
	j.mu.Lock()
	stop := j.stop
	j.mu.Unlock()
	if stop != nil {
		stop(cause)
	}
}

// over reports whether the job has ended and given back its turn.
func (j *job) over() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec.State.Ended() && j.stop == nil
}
