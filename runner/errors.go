package runner

import (
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/fault"
)

var (
	// ErrDetach is the cause of a context that asks a [Resumer] to leave the
	// benchmark running and return. The agent uses it only where [As] finds
	// a Resumer; see [WithoutDetach] for a runner that calls others.
	ErrDetach = errors.New("left running for the next start")

	// ErrCannotResume is the cause of a context that ends a run because the
	// agent stops and its runner is no [Resumer].
	ErrCannotResume = errors.New("the agent was stopped, and this kind of run cannot be continued")

	// ErrUnavailable is matched by errors that say that a runner has nothing
	// to run the job with, so that another one may be tried.
	ErrUnavailable = errors.New("runner unavailable")

	// ErrNotReady is matched by the error of a Run that began nothing, because
	// what this runner starts jobs with does not answer now: an engine that is
	// being restarted, for one. The agent waits and calls Run again; see
	// [StartChecker]. No other runner is tried, since the same job would be
	// measured in another environment.
	ErrNotReady = errors.New("runner not ready")

	// ErrBegun is matched by the error of a Run that found that the job's run was
	// begun before, and began nothing. The agent calls Resume then: its record of the
	// job may be an older copy that somebody restored.
	ErrBegun = errors.New("run was begun before")

	// ErrNotStarted is matched by the error of a Resume that found that the
	// job's run was never begun.
	ErrNotStarted = errors.New("run was never started")

	// ErrStillRunning is matched by the error of a Run or Resume that was to end
	// the benchmark and could not be sure of it.
	ErrStillRunning = errors.New("the benchmark may still be running")

	// ErrLost is matched by the error of a Resume whose run is gone without a
	// trace.
	ErrLost = errors.New("run is gone without a trace")
)

// Classes of failure, for machines; see [Error].
const (
	ClassUnavailable = "runner-unavailable" // nothing to run the job with
	ClassEngine      = "engine-unreachable" // the Docker engine does not answer
	ClassGPURuntime  = "gpu-runtime"        // the engine cannot hand out GPUs
	ClassExit        = "exit"               // the benchmark ended with a status other than 0
	ClassSignal      = "signal"             // the benchmark was killed by a signal
	ClassOOM         = "out-of-memory"      // the kernel killed it for want of memory
	ClassLost        = "lost"               // it vanished while nobody looked
	ClassPath        = "bad-path"           // a path of the job can't be used as it is
)

// An Error is a failure to run a job. Its class is one of the Class constants.
type Error = fault.Error

// An ExitError reports a benchmark that started and then failed.
type ExitError struct {
	Code      int    // exit status; 128 plus the signal's number when killed by one
	Signal    string // name of the signal that ended it, such as "SIGKILL"; empty if it exited by itself
	OOMKilled bool   // whether the kernel ended it for want of memory
	Detail    string // more about the reason, for a person; may be empty
}

// Error returns `Exit N`, which the KITT server's pages expect, and the reason
// behind it.
func (e *ExitError) Error() string {
	text := fmt.Sprintf("Exit %d", e.Code)
	switch {
	case e.OOMKilled:
		text += ": the kernel killed the benchmark because memory ran out"
	case e.Signal != "":
		text += ": the benchmark was killed by " + e.Signal
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Fault implements [fault.Classified]. There is no fix: the log says why a benchmark
// failed.
func (e *ExitError) Fault() (class, fix string) {
	switch {
	case e.OOMKilled:
		return ClassOOM, ""
	case e.Signal != "":
		return ClassSignal, ""
	}
	return ClassExit, ""
}
