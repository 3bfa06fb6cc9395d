// Package runner defines how the agent runs one benchmark job.
//
// A [Runner] runs one [Job] to its end and returns its [Result]. Optional
// interfaces extend it. A [Resumer]'s runs outlive the program: after a restart
// the agent asks it to resume a run where the last program left off. A [Cleaner]
// removes what a stopped benchmark left behind outside itself. A [Sweeper] finds
// runs that belong to no job. An [Owner] tells the processes of its runs from others. A
// [Checker] refuses jobs in advance. A [StartChecker] knows when jobs have to wait, and a
// [JobChecker] which jobs it can't run. Use [As] to look for them: it also finds those of
// a runner that another one wraps.
//
// Stopping a job and detaching from it are different operations. Both end the
// context of Run, and its cause tells them apart: [ErrDetach] leaves the
// benchmark running for a later Resume, any other cause ends it.
//
// Package runner/docker runs jobs in containers, runner/process through the
// local kitt command, runner/simulated without hardware; runner/runnertest
// plays back scripted runs. This package imports none of them, so a program
// that brings its own Runner links no Docker client.
package runner

import (
	"context"
	"path/filepath"
	"time"
)

// A Runner runs benchmark jobs. Its methods are safe for concurrent use.
type Runner interface {
	// Run runs job and returns once the benchmark has ended and everything
	// that it started is gone. What the benchmark prints goes to out.
	//
	// The error is an [*ExitError] if the benchmark started and failed, and
	// matches [ErrUnavailable] if this runner has nothing to run the job with, or
	// [ErrNotReady] if it can't start a job now; in both cases nothing was started. It
	// matches [ErrBegun] if the job's run was begun by an earlier call.
	// The Result is meaningful with an ExitError too.
	//
	// When ctx is done Run stops the benchmark (a polite signal, job.StopGrace,
	// then a kill) and returns an error that matches context.Cause(ctx). Only if
	// that cause is [ErrDetach] does a [Resumer] leave the benchmark running.
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
	// [ErrDetach]: the program before may have died in the midst of a stop.
	//
	// The error matches [ErrNotStarted] if no run of job was ever begun, so
	// that Run may safely be called, and [ErrLost] if one was begun and there
	// is no trace of it any more, nor of how it ended.
	Resume(ctx context.Context, job Job, from Position, out Output) (Result, error)
}

// A Cleaner removes what a benchmark started outside of itself and left behind
// when it was stopped, such as the engine containers of `kitt run`.
type Cleaner interface {
	// Clean ends what job, started at since, left running, and nothing of other jobs,
	// which may be running. It says on out what it ended.
	Clean(ctx context.Context, job Job, since time.Time, out Output) error
}

// A Sweeper finds runs that belong to no job.
type Sweeper interface {
	// Sweep ends this agent's runs that are older than grace and whose job's
	// ID is not claimed, and returns the IDs of the runs that it ended.
	Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error)
}

// A Checker is a Runner that may know before a job is accepted that it can't run
// any.
type Checker interface {
	// Check returns why no job can be run, and nil if that isn't known. It returns
	// at once: it asks nobody, reads nothing, and says what is known already.
	Check() error
}

// A StartChecker is a Runner whose jobs may have to wait for something outside of this
// program, such as a container engine.
type StartChecker interface {
	// CheckStart returns nil if Run would start a job now, as far as that is known.
	// The error matches [ErrNotReady] if a job has to wait, and says for what; the
	// agent then keeps its jobs and asks again. It matches [ErrUnavailable] if Run
	// would say so.
	CheckStart(ctx context.Context) error
}

// A JobChecker is a Runner that may know before a job is prepared that it has nothing to
// run it with.
type JobChecker interface {
	// CheckJob returns an error that matches [ErrUnavailable] if Run would return one for
	// job, whose Model may be missing yet, and nil if that isn't known. It looks at the
	// files of this machine at most.
	CheckJob(job Job) error
}

// The words of [Job].Mode.
const (
	ModeDocker = "docker" // kitt starts the engine in a container
	ModeNative = "native" // kitt starts the engine that is installed on this machine
)

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

	// ModelFiles are all files of a model that is several files of a directory, such
	// as the parts of a split GGUF file; Model is one of them. It is nil for other
	// models. A container needs all of them.
	ModelFiles []string

	// Engine, Suite and Mode are the words of `kitt run`'s -e, -s and --mode.
	// An empty Mode leaves the choice to kitt.
	Engine, Suite, Mode string

	// Config is a file in ResultsDir with settings of the engine, as `kitt run --config`
	// reads it; empty if there are none.
	Config string

	// Image is the container image that is wanted; empty means the runner's
	// default.
	Image string

	// GPUs are the GPUs that the run gets, by UUID or index as nvidia-smi
	// shows them. [AllGPUs] as the only element means every GPU of the machine.
	// Empty means none.
	GPUs []string

	// GPUFiles is how many files of GPUs in /dev (nvidia0 and so on) the run has to
	// see, and GPUsOnly whether it may see no more. A run in a container that sees
	// others is not begun. Zero for GPUFiles checks nothing.
	GPUFiles int
	GPUsOnly bool

	// Host is the part of the machine that a run in a container gets.
	Host HostSet

	// StopGrace is the time between the polite signal and the kill when the
	// job is stopped. Zero means [DefaultStopGrace].
	StopGrace time.Duration
}

// A HostSet is a part of a machine's CPUs and memory. Its zero value is all of both.
type HostSet struct {
	CPUs        string  // a list in the form of cpuset(7), such as 0-15,64-79; empty for all
	MemoryNodes string  // NUMA nodes in the same form; empty for all
	MemoryShare float64 // of what a run may have otherwise, from 0 to 1; 0 for all
}

// AllGPUs stands for every GPU of the machine in [Job].GPUs.
const AllGPUs = "all"

// DefaultStopGrace is the time a stopped benchmark gets to end by itself.
const DefaultStopGrace = 10 * time.Second

// Grace returns the job's StopGrace, or [DefaultStopGrace] if it has none.
func (j Job) Grace() time.Duration {
	if j.StopGrace > 0 {
		return j.StopGrace
	}
	return DefaultStopGrace
}

// ModelPaths returns the local paths of the model: its files, the one path, or none
// for an identifier.
func (j Job) ModelPaths() []string {
	switch {
	case len(j.ModelFiles) > 0:
		return j.ModelFiles
	case filepath.IsAbs(j.Model):
		return []string{j.Model}
	}
	return nil
}

// Arguments returns the words that follow `kitt` on the command line for this
// job, without the flags that only one kind of runner adds.
func (j Job) Arguments() []string {
	args := []string{"run", "-m", j.Model, "-e", j.Engine, "-s", j.Suite, "-o", j.ResultsDir}
	if j.Mode != "" {
		args = append(args, "--mode", j.Mode)
	}
	if j.Config != "" {
		args = append(args, "--config", j.Config)
	}
	return args
}

// PhaseVar is the variable of a benchmark's environment that names its [Job.PhaseFile].
const PhaseVar = "KITT_PHASE_FILE"

// PhaseFile returns the file to which a benchmark that knows its phases may append a line
// when one begins, such as "measure throughput".
func (j Job) PhaseFile() string { return filepath.Join(j.ResultsDir, "phases.txt") }

// An Image is the container image of a run.
type Image struct {
	Name   string // by which it was chosen
	ID     string // its digest on this machine, sha256:…
	Digest string // name@sha256:… in a registry; empty for one that was built here
}

// A Result says how a run went, apart from what it wrote into Job.ResultsDir.
type Result struct {
	Runner      string // which kind of runner ran it: "docker", "process", …
	ContainerID string // the container, where there was one
	Image       Image  // of the container

	// SeenGPUs is how many GPUs the run could see from inside; nil if that isn't known.
	SeenGPUs *int

	Started time.Time
	Ended   time.Time
}
