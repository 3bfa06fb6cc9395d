package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
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

// Cancel stops the job of the command or test with the given id, on behalf of by,
// which the report names. A job that waits is taken out of the queue; a running
// benchmark is ended, first with a signal that it can handle and after
// Config.StopGrace by force. It returns once the job has ended, or when ctx is done,
// which doesn't withdraw the request. A job whose benchmark may still be running has not
// ended, unless its runner is no runner.Resumer, which can't tell more: the error then
// matches [runner.ErrStillRunning]. While Run isn't running the error matches
// [ErrNotAccepting].
func (a *Agent) Cancel(ctx context.Context, id, by string) error {
	stopped, release, err := a.registry.acquire()
	if err != nil {
		return err
	}
	defer release()
	j := a.registry.find(id)
	if j == nil {
		return ErrNoJob
	}
	if j.State().Ended() {
		return ErrEnded
	}
	a.requestCancel(j, by)
	for {
		changed := j.Changed()
		if rec := j.Record(); rec.State.Ended() && !a.queue.HoldsSlot(j) {
			if rec.Outcome.MayRun {
				return fmt.Errorf("%w: %s", runner.ErrStillRunning, rec.Outcome.Error)
			}
			return nil
		}
		select {
		case <-changed:
		case <-stopped:
			return ErrStopping
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// requestCancel stops j, and writes the request to disk at the same time, so that a
// disk that doesn't answer keeps no benchmark running. It waits for neither. The
// caller has acquired the registry.
func (a *Agent) requestCancel(j *jobs.Job, by string) {
	first := j.RequestCancel(jobs.Cancellation{By: cmp.Or(by, "user"), At: time.Now()})
	if first {
		a.cfg.Logger.Info("cancelling job", "job", j.ID, "by", j.Cancelled().By)
	}
	waiting := a.queue.Remove(j)
	a.queue.Stop(j, execution.ErrCancelled)
	_, release, err := a.registry.acquire()
	if err != nil {
		return // the caller's own keeps that from happening
	}
	go func() {
		defer release()
		if first {
			if err := j.SaveCancel(); err != nil {
				a.cfg.Logger.Warn("cancel not written", "job", j.ID, "err", err)
			}
		}
		if waiting {
			a.executor.FinalizeWaiting(j, execution.Cancelled(j.Cancelled()))
		}
	}()
}

// stoppedOnServer stops a job whose test the server calls ended.
func (a *Agent) stoppedOnServer(j *jobs.Job, test reporter.Test) {
	_, release, err := a.registry.acquire()
	if err != nil {
		return
	}
	defer release()
	if j.State().Ended() {
		return
	}
	by := "server"
	if who, ok := strings.CutPrefix(test.Error, "Cancelled by "); ok && who != "" {
		by = printable(who) + " on the server"
	}
	a.requestCancel(j, by)
}
