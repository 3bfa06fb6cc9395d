// Package runner defines how the agent runs one benchmark job.
//
// A [Runner] takes one [Job] to its end and returns its [Result]. A runner
// whose runs outlive the program is a [Resumer] as well: after a restart the
// agent asks it to go on with a run where the last program left off. A runner
// that can remove what a stopped benchmark left behind beside itself is a
// [Cleaner], and one that can find runs that nobody claims is a [Sweeper].
//
// Stopping a job and letting go of it are two things. Both end the context of
// Run, and its cause tells them apart: [ErrLetGo] leaves the benchmark running
// for a later Resume, any other cause ends it.
//
// Package runner/docker runs jobs in containers, runner/process through the
// local kitt command, runner/simulated without hardware; runner/runnertest
// plays back scripted runs. This package imports none of them, so a program
// that brings its own Runner links no Docker client.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Runner runs benchmark jobs. Its methods are safe for concurrent use.
type Runner interface {
	// Run runs job and returns once the benchmark has ended and everything
	// that it started is gone. What the benchmark prints goes to out.
	//
	// The error is an [*ExitError] if the benchmark started and failed, and
	// matches [ErrUnavailable] if this runner has nothing to run the job with,
	// in which case nothing was started. The Result is meaningful beside an
	// ExitError too.
	//
	// When ctx is done Run stops the benchmark (a polite signal, job.StopGrace,
	// then a kill) and returns an error that matches context.Cause(ctx). Only if
	// that cause is [ErrLetGo] does a [Resumer] leave the benchmark running.
	Run(ctx context.Context, job Job, out Output) (Result, error)
}

// A Resumer is a Runner whose runs outlive the program that started them.
type Resumer interface {
	Runner

	// Resume goes on with the run of job that an earlier program started, and
	// otherwise behaves like Run. Output before from is left out: from is the
	// Position that followed the last byte the agent kept, zero for none.
	//
	// A ctx that is done already ends the run all the same, unless its cause is
	// [ErrLetGo]: the program before may have died in the midst of a stop.
	//
	// The error matches [ErrNotStarted] if no run of job was ever begun, so
	// that Run may safely be called, and [ErrLost] if one was begun and there
	// is no trace of it any more, nor of how it ended.
	Resume(ctx context.Context, job Job, from Position, out Output) (Result, error)
}

// A Cleaner removes what a benchmark started outside of itself and left behind
// when it was stopped, such as the engine containers of `kitt run`.
type Cleaner interface {
	// Clean ends what job, started at since, left running. It says on out what
	// it ended.
	Clean(ctx context.Context, job Job, since time.Time, out Output) error
}

// A Sweeper finds runs that belong to no job.
type Sweeper interface {
	// Sweep ends this agent's runs that are older than grace and whose job's
	// ID is not claimed, and returns the IDs of the runs that it ended.
	Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error)
}

// A Job is one benchmark to run.
type Job struct {
	// ID is the id of the command that asked for the job. It names the run, so
	// that the same job is found again after a crash: 1 to 64 characters out of
	// letters, digits, '.', '_' and '-', beginning with a letter or digit.
	ID string

	// Dir is the job's own directory: absolute, existing, without symbolic
	// links. A runner may keep files of its own in a subdirectory named for
	// itself.
	Dir string

	// ResultsDir is where the benchmark writes metrics.json and its other
	// files: absolute, existing, without symbolic links and without ':'.
	ResultsDir string

	// Model is a local path, or an identifier that the engine fetches itself.
	Model string

	// Engine, Suite and Mode are the words of `kitt run`'s -e, -s and --mode.
	// An empty Mode leaves the choice to kitt.
	Engine, Suite, Mode string

	// Image is the container image that is wanted; empty means the runner's
	// default.
	Image string

	// GPUs says whether the run gets all GPUs of the machine.
	GPUs bool

	// StopGrace is the time between the polite signal and the kill when the
	// job is stopped. Zero means [DefaultStopGrace].
	StopGrace time.Duration
}

// DefaultStopGrace is the time a stopped benchmark gets to end by itself.
const DefaultStopGrace = 10 * time.Second

// Grace returns the job's StopGrace, or [DefaultStopGrace] if it has none.
func (j Job) Grace() time.Duration {
	if j.StopGrace > 0 {
		return j.StopGrace
	}
	return DefaultStopGrace
}

// Arguments returns the words that follow `kitt` on the command line for this
// job, without the flags that only one kind of runner adds.
func (j Job) Arguments() []string {
	args := []string{"run", "-m", j.Model, "-e", j.Engine, "-s", j.Suite, "-o", j.ResultsDir}
	if j.Mode != "" {
		args = append(args, "--mode", j.Mode)
	}
	return args
}

// A Result says how a run went, beside what it wrote into Job.ResultsDir.
type Result struct {
	Runner      string // which kind of runner ran it: "docker", "process", …
	ContainerID string // the container, where there was one
	Started     time.Time
	Ended       time.Time
}

// An Output takes what a benchmark prints. Its methods are safe for concurrent
// use, keep nothing of p after they return, and never wait for a network or a
// reader.
type Output interface {
	// Write takes text of the runner's own, such as which image it chose, or
	// all the output of a runner that cannot resume.
	io.Writer

	// WriteFrom takes p, which the benchmark printed at time at (zero: now) and
	// which begins at position from of the run's output.
	WriteFrom(p []byte, at time.Time, from Position) error
}

// A Position is a place in the output of a run, to which the run can be
// followed again after a restart. Its fields mean what the runner says they do;
// the agent only adds to Byte as it consumes what was written.
type Position struct {
	Stamp int64 // nanoseconds since 1970 of the engine's log entry; 0 where entries bear no time
	Count int64 // entries that bear Stamp and come before this one
	Byte  int64 // bytes into that entry, or into the output as a whole
}

// NewOutput returns an Output that passes everything on to w and forgets
// positions. It is for programs that call a Runner without an agent.
func NewOutput(w io.Writer) Output { return plainOutput{w} }

type plainOutput struct{ io.Writer }

func (o plainOutput) WriteFrom(p []byte, _ time.Time, _ Position) error {
	_, err := o.Write(p)
	return err
}

var (
	// ErrLetGo is the cause of a context that asks a Resumer to leave the
	// benchmark running and return.
	ErrLetGo = errors.New("left running for the next start")

	// ErrUnavailable is matched by errors that say that a runner has nothing
	// to run the job with, so that another one may be tried.
	ErrUnavailable = errors.New("runner unavailable")

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

// An Error is a failure to run a job: one sentence for a person, a class for a
// machine and, where there is one, the command that mends it.
type Error struct {
	Kind   string // one of the Class constants
	Text   string // one sentence, without the remedy
	Remedy string // a command or a sentence that says what to do; may be empty
	Err    error  // what lies beneath; may be nil
}

// Error returns the sentence, with the remedy behind it where there is one.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Text
	}
	return e.Text + " (" + e.Remedy + ")"
}

// Unwrap returns what lies beneath.
func (e *Error) Unwrap() error { return e.Err }

// Class returns the failure's class, for machines.
func (e *Error) Class() string { return e.Kind }

// Fix returns what mends the failure, or an empty text.
func (e *Error) Fix() string { return e.Remedy }

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

// Class returns the failure's class, for machines.
func (e *ExitError) Class() string {
	switch {
	case e.OOMKilled:
		return ClassOOM
	case e.Signal != "":
		return ClassSignal
	}
	return ClassExit
}

// Fix returns an empty text: the log says why a benchmark failed.
func (e *ExitError) Fix() string { return "" }
