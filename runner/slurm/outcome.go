package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// Classes of failure in addition to those of package runner.
const (
	ClassSlurm     = "slurm-unreachable" // Slurm does not answer
	ClassRefused   = "slurm-refused"     // Slurm does not take such a job
	ClassTimeLimit = "slurm-time-limit"  // the job's time limit at Slurm was over
	ClassCancelled = "slurm-cancelled"   // somebody cancelled the job at Slurm
	ClassRequeued  = "slurm-requeued"    // somebody had Slurm start the job again
	ClassPreempted = "slurm-preempted"   // Slurm gave the job's nodes to another one
	ClassNode      = "slurm-node"        // the node failed, or could not start the job
	ClassShared    = "slurm-shared-dir"  // the node does not see the shared directory
)

// lost returns the error for a job that left no trace of how it ended.
func lost(text string) error {
	return &runner.Error{Class: runner.ClassLost, Text: "the benchmark is gone: " + text, Err: runner.ErrLost}
}

// ended returns how the job ended. Its files are trusted first, Slurm only where they say
// nothing.
func (f *follower) ended(ctx context.Context) (runner.Result, error) {
	result := f.begun()
	outside := f.exit == nil || f.exit.Asked != "" || f.exit.Signal != ""
	requeued := f.cancelRest(ctx, outside)
	ending := func() ending {
		if requeued != nil {
			return ending{ID: requeued.ID, State: stateRequeued}
		}
		return f.ending(ctx)
	}
	if f.exit == nil {
		end := ending()
		f.sayLog()
		result.Ended = time.Now()
		if result.Started.IsZero() {
			result.Started = result.Ended
		}
		return result, end.err(f.claimed(), f.lastID())
	}
	result.Started, result.Ended = f.here(f.exit.Started), f.here(f.exit.Ended)
	if result.Started.Before(f.intent.At) && !f.intent.At.IsZero() {
		result.Started = f.intent.At // a clock is wrong
	}
	if result.Ended.Before(result.Started) {
		result.Ended = result.Started
	}
	err := f.exit.Err()
	if err == nil || !outside {
		return result, err
	}
	// Something ended the benchmark from outside: Slurm may know why.
	end := ending()
	if end.cause() == nil && f.exit.Asked != "" && f.atLimit(result) {
		end.State = "TIMEOUT" // it ended after the signal before that
	}
	return result, end.because(err)
}

// atLimit reports whether the job ended when Slurm sends a signal before its time limit,
// which may be a minute earlier than it was asked for (sbatch(1), --signal).
func (f *follower) atLimit(result runner.Result) bool {
	last := f.last.Load()
	if last == nil {
		return false
	}
	limit := parseLimit(last.Limit)
	early := f.job.Grace() + signalEarly*time.Second + time.Minute
	return limit > 0 && result.Ended.Sub(result.Started) > limit-early
}

// lastID names the job and where it ran, for a sentence.
func (f *follower) lastID() string {
	if ids := f.jobIDs(); len(ids) > 0 {
		return ids[len(ids)-1]
	}
	return f.intent.Name
}

// cancelRest cancels what else Slurm has by the job's name: it would find the claim and
// end, but holds a place in the queue until then. A job that was ended from outside may
// be one that Slurm puts back into the queue, which takes a moment; that one is returned.
func (f *follower) cancelRest(ctx context.Context, outside bool) (requeued *entry) {
	ran := f.last.Load()
	since := time.Now()
	if !outside {
		since = since.Add(-f.r.cfg.Poll)
	}
	for range restTries {
		look, err := f.r.queue.look(ctx, since)
		if err != nil {
			return requeued
		}
		left := false
		for _, e := range look.jobs[f.intent.Name] {
			left = left || !e.over()
			if !e.waiting() {
				continue
			}
			if err := f.r.slurm.cancel(ctx, e.ID, f.intent.Name); err != nil {
				f.say("job %s of Slurm waits in vain and could not be cancelled: %v", e.ID, err)
			}
			if ran != nil && ran.ID == e.ID && f.claimed() {
				requeued = &e
			}
		}
		if !outside || !left || base.Wait(ctx, time.Second) != nil {
			break
		}
		since = time.Now()
	}
	return requeued
}

// stateRequeued is the state of a job that was started and waits again.
const stateRequeued = "REQUEUED"

// restTries is how often cancelRest looks.
const restTries = 5

// endingTries is how often Slurm is asked how a job ended, since its answers lag.
const endingTries = 3

// ending returns what Slurm knows of the job's end: by its accounting, else by its
// controller. It is empty if Slurm knows nothing.
func (f *follower) ending(ctx context.Context) ending {
	for try := range endingTries {
		if end, found := f.r.accounting(ctx, f.intent.Name, f.intent.At); found {
			return end
		}
		for _, id := range f.jobIDs() {
			if end, found := f.r.controller(ctx, id, f.intent.Name); found {
				return end
			}
		}
		if over := f.over.Load(); over != nil && over.entry.ID != "" {
			return ending{ID: over.entry.ID, State: over.entry.State, Reason: over.entry.Reason, Nodes: over.entry.Nodes, Start: over.entry.Start}
		}
		if try+1 < endingTries && base.Wait(ctx, time.Second) != nil {
			break
		}
	}
	return ending{}
}

// where returns "job 17 on n1".
func (e ending) where() string {
	text := "job " + cmp.Or(base.Printable(e.ID, 20), "of Slurm")
	if e.Nodes != "" {
		text += " on " + base.Printable(e.Nodes, 100)
	}
	return text
}

// cause returns the error for an end that Slurm has caused, and nil if it has not.
func (e ending) cause() *runner.Error {
	fail := func(class, text, fix string) *runner.Error { return &runner.Error{Class: class, Text: text, Fix: fix} }
	switch e.State {
	case "TIMEOUT":
		return fail(ClassTimeLimit, "Slurm ended "+e.where()+" because its time limit was over", "raise slurm.time")
	case "DEADLINE":
		return fail(ClassTimeLimit, "Slurm ended "+e.where()+" because its deadline was over", "change --deadline in slurm.args")
	case "OUT_OF_MEMORY":
		return fail(runner.ClassOOM, e.where()+" used more memory than Slurm gave it", "raise --mem in slurm.args")
	case "NODE_FAIL":
		return fail(ClassNode, "the node of "+e.where()+" failed", "look at: scontrol show node "+base.Printable(e.Nodes, 100))
	case "BOOT_FAIL":
		return fail(ClassNode, "the node of "+e.where()+" did not boot", "look at: scontrol show node "+base.Printable(e.Nodes, 100))
	case "LAUNCH_FAILED", "RECONFIG_FAIL", "POWER_UP_NODE":
		return fail(ClassNode, "Slurm could not start "+e.where(), "look at the log of slurmd on the node")
	case "PREEMPTED":
		return fail(ClassPreempted, "Slurm stopped "+e.where()+" for one of a higher priority", "use a partition or slurm.qos that is not preempted")
	case stateRequeued:
		return fail(ClassRequeued, "somebody had Slurm put "+e.where()+" back into its queue; a benchmark runs once", "launch it again")
	case "REVOKED":
		return fail(ClassCancelled, "another cluster of the federation runs "+e.where(), "submit to one cluster only")
	case "CANCELLED":
		by := ""
		if e.By != "" {
			by = " by user " + base.Printable(e.By, 40)
		}
		if e.By == "0" {
			by += ", which is also what a restarted controller says of jobs that it lost,"
		}
		return fail(ClassCancelled, e.where()+" was cancelled at Slurm"+by+" and not by this agent", "")
	}
	if e.Code == "0:53" {
		return fail(ClassShared, "Slurm could not write the log of "+e.where()+" (status 0:53): the node does not see the job's directory, or may not write there",
			"mount slurm.shared_dir on all nodes by the same path")
	}
	return nil
}

// because returns the error of a benchmark that was ended from outside, with the reason
// that Slurm gives.
func (e ending) because(err error) error {
	cause := e.cause()
	if cause == nil {
		if exit, ok := errors.AsType[*runner.ExitError](err); ok && e.State != "" {
			exit.Detail = fmt.Sprintf("Slurm has %s as %s", e.where(), strings.ToLower(base.Printable(e.State, 40)))
		}
		return err
	}
	cause.Err = err
	return cause
}

// err returns the error for a job without exit.json.
func (e ending) err(begun bool, id string) error {
	if cause := e.cause(); cause != nil {
		if begun {
			cause.Err = runner.ErrLost
		}
		return cause
	}
	if e.ID == "" {
		e.ID = id
	}
	switch {
	case e.State == "" && !begun:
		return lost("Slurm does not know " + e.where() + " any more, and it never began: its controller lost it, or it was cancelled while the agent was away")
	case e.State == "":
		return lost("Slurm does not know " + e.where() + " any more, and nothing is left that could say how it ended")
	case !begun && e.State == "FAILED":
		return &runner.Error{
			Class: ClassNode, Err: runner.ErrUnavailable,
			Text: fmt.Sprintf("%s failed before the benchmark began, with status %s", e.where(), base.Printable(e.Code, 20)),
			Fix:  "look at what the node said in the job's log; slurm.shared_dir has to be mounted there by the same path",
		}
	case !begun:
		return lost(fmt.Sprintf("Slurm says that %s is %s, and it never began", e.where(), strings.ToLower(base.Printable(e.State, 40))))
	}
	return lost(fmt.Sprintf("Slurm says that %s is %s, and nothing says how the benchmark ended", e.where(), strings.ToLower(base.Printable(e.State, 40))))
}

// maxLog is how much of slurm.log is said, in bytes.
const maxLog = 2000

// sayLog says what Slurm and the wrapper have printed, where the job's files don't tell
// how it ended.
func (f *follower) sayLog() {
	file, err := base.OpenRegular(filepath.Join(directory(f.job), logFile))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			f.say("the node has written no log")
		}
		return
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > maxLog {
		_, _ = file.Seek(-maxLog, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, maxLog)) // what can be read of it
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(base.Printable(line, 300)); line != "" {
			f.say("the node said: %s", line)
		}
	}
}
