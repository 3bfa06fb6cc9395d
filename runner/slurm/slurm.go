// Package slurm runs benchmarks as jobs of a Slurm cluster.
//
// The agent is on a login node, or on any machine with Slurm's commands and the
// cluster's shared file system. [Runner] submits each job with sbatch. On the node Slurm
// starts the wrapper, a program whose whole work is [RunOnNode]: package
// runner/supervisor in front of the benchmark. Everything that the two tell each other
// is in files of the job's directory, which is below [Config.SharedDir].
//
// # Promises
//
// A benchmark runs at most once, whatever Slurm does. Slurm requeues jobs, allocates
// them twice after its controller was killed, reports failed submissions of jobs that
// run, and forgets jobs. So the file started.json, which the wrapper makes exclusively
// on the shared file system, alone decides who runs the benchmark. Each later start
// finds it, says so and ends with status 0.
//
// How a benchmark ended is what the wrapper wrote, and what Slurm says only where it
// wrote nothing: exit.json, then sacct, then squeue. COMPLETED without exit.json is no
// success.
//
// No foreign job is ever touched. A job of this runner is known by its name, which
// holds the owner and the job's ID, and is cancelled by its Slurm ID.
//
// # The job's files
//
// In Job.Dir/slurm:
//
//	intent.json     the job's name and when it was to be submitted first; written
//	                before that, durable
//	submitted.json  the IDs that Slurm gave it
//	spec.json       what the wrapper runs
//	slurm.log       what Slurm and the wrapper print, see sbatch --output
//	machine.json    what the wrapper says of its node
//	status.json     what squeue said last, see [Status]
//	the others      see package runner/supervisor
//
// # A submission
//
//	sbatch said          then
//	an ID                it is followed
//	a refusal            nothing was begun; the error says what to change
//	anything else        unknown: the job is looked for by its name until Slurm has
//	                     answered for a while, and is submitted again if it isn't there
//
// A job that was submitted twice all the same waits for the other (--dependency=singleton),
// finds its claim and ends.
//
// # Time
//
// Slurm's commands have a deadline and run in goroutines of their own: a Slurm that
// hangs delays no output. All jobs of a Runner share one squeue call per
// [Config.Poll]. Files of a node may be seen late by up to [Config.Late]. Times that
// the node has written are corrected by how far its clock is from this machine's.
package slurm

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// Config says where and how jobs are submitted.
type Config struct {
	// Owner tells this agent's jobs from those of other agents of the same user. It is
	// required.
	Owner string

	// SharedDir is a directory that all nodes see by the same path. The directories of
	// jobs are below it. It is required.
	SharedDir string

	// Wrapper returns the program that Slurm starts on the node and its argument, which
	// may be empty: on that program line, [RunOnNode] gets what follows. It is called
	// before each submission and is required.
	Wrapper func(ctx context.Context) (program, argument string, err error)

	// Partition, Account and QOS are sbatch's options of these names. Empty ones are
	// left to the cluster's defaults.
	Partition, Account, QOS string

	// Time is the time limit of a job, rounded up to minutes. Zero leaves it to the
	// partition.
	Time time.Duration

	// GPUs is how many GPUs a job gets. Zero means none.
	GPUs int

	// GPUType is the type of these, as in gres.conf. Empty means any.
	GPUType string

	// Exclusive gives a job whole nodes.
	Exclusive bool

	// Args are further arguments of sbatch; see [CheckArgs].
	Args []string

	// Command is the command line on the node, see [Command].
	Command []string

	// Image is what {image} means in Command for a job that names none.
	Image string

	// After is the command line that ends what Command has started outside of its own
	// processes, such as a container. It runs on the node when the benchmark has ended.
	After []string

	// Env is added to the environment of the benchmark, as NAME=value.
	Env []string

	// Describe is the command line that prints a description of the node, as JSON. Nil
	// leaves nodes undescribed.
	Describe []string

	// Fetch is the command line that brings the model to a node. It reads the job from
	// its standard input, one line of JSON, prints the job with the paths on the node
	// likewise, and keeps the model there until its standard input ends. Nil leaves the
	// model where it is.
	Fetch []string

	// LogLimit is the most bytes of a run's output on the disk. Zero means
	// supervisor.DefaultLimit, and less than zero no limit.
	LogLimit int64

	// Commands is the environment of Slurm's commands, as NAME=value. Nil means what
	// they need of this program's own.
	Commands []string

	// Poll is the time between two calls of squeue, from 100 ms. Defaults to 10 s.
	Poll time.Duration

	// Late is how long a file of a node may take to be seen here. Defaults to 60 s.
	Late time.Duration

	// Deadline is how long one of Slurm's commands may take. Defaults to 30 s.
	Deadline time.Duration

	// Settle is how long Slurm must have answered, without knowing a job, before that
	// is submitted again after a submission with an unknown outcome: at least twice
	// Slurm's MessageTimeout. Defaults to 30 s.
	Settle time.Duration

	// Logger receives what an operator wants to know. Nil discards it.
	Logger *slog.Logger
}

func (cfg Config) withDefaults() Config {
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	orDefault(&cfg.Poll, 10*time.Second)
	orDefault(&cfg.Late, time.Minute)
	orDefault(&cfg.Deadline, 30*time.Second)
	orDefault(&cfg.Settle, 30*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Commands == nil {
		cfg.Commands = commandEnv(os.Environ())
	}
	if len(cfg.Command) == 0 {
		cfg.Command = []string{"kitt"}
	}
	return cfg
}

func (cfg Config) validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Owner == "" {
		fault("Owner is empty")
	}
	if !filepath.IsAbs(cfg.SharedDir) {
		fault("SharedDir %q is not an absolute path", cfg.SharedDir)
	}
	if cfg.Wrapper == nil {
		fault("Wrapper is nil")
	}
	for name, value := range map[string]string{"Partition": cfg.Partition, "Account": cfg.Account, "QOS": cfg.QOS, "GPUType": cfg.GPUType} {
		if err := CheckName(value); value != "" && err != nil {
			fault("%s: %w", name, err)
		}
	}
	if cfg.Time < 0 || cfg.Time > maxTime {
		fault("Time is %v, not from 0 to %v", cfg.Time, maxTime)
	}
	if cfg.GPUs < 0 || cfg.GPUs > maxGPUs {
		fault("GPUs is %d, not from 0 to %d", cfg.GPUs, maxGPUs)
	}
	if cfg.Poll < 100*time.Millisecond {
		fault("Poll is %v, less than 100ms", cfg.Poll)
	}
	if err := CheckArgs(cfg.Args); err != nil {
		fault("Args: %w", err)
	}
	if err := CheckCommand(cfg.Command); err != nil {
		fault("Command: %w", err)
	}
	if err := CheckCommand(cfg.After); len(cfg.After) > 0 && err != nil {
		fault("After: %w", err)
	}
	for name, line := range map[string][]string{"Describe": cfg.Describe, "Fetch": cfg.Fetch} {
		if len(line) > 0 && line[0] == "" {
			fault("%s: there is no program", name)
		}
	}
	return errors.Join(errs...)
}

const (
	maxTime = 365 * 24 * time.Hour
	maxGPUs = 1024
)

// A Runner submits jobs to Slurm and follows them. Its methods are safe for concurrent
// use.
type Runner struct {
	cfg    Config
	prefix string // of the names of this owner's jobs
	slurm  commands
	queue  *queue
}

var (
	_ runner.Resumer      = (*Runner)(nil)
	_ runner.Sweeper      = (*Runner)(nil)
	_ runner.StartChecker = (*Runner)(nil)
)

// New returns a Runner. It starts nothing and runs no command.
func New(cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("slurm: %w", err)
	}
	r := &Runner{cfg: cfg, prefix: prefixOf(cfg.Owner, cfg.SharedDir)}
	r.slurm = newCommands(cfg.Commands, cfg.Deadline)
	r.queue = newQueue(r.slurm, r.prefix)
	return r, nil
}

// kind is what this runner calls itself in results, and the name of its directory in
// the job's.
const kind = "slurm"

// maxOwner is how much of an owner is in the names of jobs, in bytes.
const maxOwner = 24

// prefixOf returns what the names of an owner's jobs begin with. The hash keeps those of
// owner "a" from those of "a-b".
func prefixOf(owner, sharedDir string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(owner + "\x00" + filepath.Clean(sharedDir))) // it never fails
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, owner)
	return fmt.Sprintf("kitt-%s-%012x-", name[:min(len(name), maxOwner)], h.Sum64()>>16)
}

func directory(job runner.Job) string { return filepath.Join(job.Dir, kind) }

// Run submits job and follows it to its end.
func (r *Runner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if ctx.Err() != nil {
		return runner.Result{}, context.Cause(ctx)
	}
	if !isShared(r.cfg.SharedDir, job.Dir) {
		return runner.Result{}, &runner.Error{
			Class: runner.ClassPath, Err: runner.ErrUnavailable,
			Text: fmt.Sprintf("the directory of the job, %s, is not below the shared directory %s, so that no node sees it", job.Dir, r.cfg.SharedDir),
			Fix:  "set KITT_HOME to a directory below slurm.shared_dir",
		}
	}
	program, argument, err := r.cfg.Wrapper(ctx)
	if err == nil {
		err = checkScript(program, argument)
	}
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	waiting := func(err error) { _ = out.WriteMessage(fmt.Sprintf("waiting to start: %v", err)) }
	f, err := base.Persist(ctx, waiting, func() (*follower, error) { return r.begin(job, out, script(program, argument)) })
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	defer f.close()
	if err := f.submit(ctx, false); err != nil {
		return f.unsubmitted(ctx, err)
	}
	return f.follow(ctx)
}

// isShared reports whether dir, a path without links, is in the shared directory, whose
// path may have some.
func isShared(shared, dir string) bool {
	if base.Within(filepath.Clean(shared), dir) {
		return true
	}
	real, err := filepath.EvalSymlinks(shared)
	return err == nil && base.Within(real, dir)
}

// begin writes the files of the run. With an error nothing was begun.
func (r *Runner) begin(job runner.Job, out runner.Output, script string) (*follower, error) {
	dir := directory(job)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the run: %w", err)
	}
	if base.Exists(filepath.Join(dir, intentFile)) {
		return nil, fmt.Errorf("run %s: %w: there is %s", job.ID, runner.ErrBegun, filepath.Join(dir, intentFile))
	}
	if err := prepare(dir); err != nil {
		return nil, fmt.Errorf("make the files of the run: %w", err)
	}
	if err := r.specOf(job).write(dir); err != nil {
		return nil, fmt.Errorf("write what is to be run: %w", err)
	}
	in := intent{Version: version, Job: job.ID, Name: r.prefix + job.ID, Script: script, At: time.Now().UTC()}
	if err := writeState(dir, intentFile, in); err != nil {
		return nil, fmt.Errorf("write that the job is to be submitted: %w", err)
	}
	return r.newFollower(job, in, 0, out)
}

// Resume follows a job that an earlier program submitted, or was about to.
func (r *Runner) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if cause := context.Cause(ctx); errors.Is(cause, runner.ErrDetach) {
		return runner.Result{}, cause
	}
	dir := directory(job)
	in, err := base.Persist(ctx, nil, func() (intent, error) { return readState[intent](dir, intentFile) })
	if errors.Is(err, os.ErrNotExist) && from == 0 && !base.Exists(filepath.Join(dir, claimFile)) {
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	}
	if err != nil {
		// The name of the job follows from its ID, so that it can still be ended.
		in = intent{Version: version, Job: job.ID, Name: r.prefix + job.ID}
	}
	f, ferr := base.Persist(ctx, nil, func() (*follower, error) { return r.newFollower(job, in, int64(from), out) })
	if ferr != nil {
		return runner.Result{}, fmt.Errorf("%w: %w", runner.ErrStillRunning, base.JoinCause(ctx, ferr))
	}
	defer f.close()
	if err != nil {
		return f.begun(), errors.Join(lost("its files can't be read: "+err.Error()), f.stop())
	}
	ids, err := readState[submitted](dir, submittedFile)
	switch {
	case ctx.Err() != nil:
		return f.stopped(ctx)
	case err == nil && len(ids.IDs) > 0:
		f.setIDs(ids.IDs)
		return f.follow(ctx)
	}
	if err := f.submit(ctx, true); err != nil {
		return f.unsubmitted(ctx, err)
	}
	return f.follow(ctx)
}

// CheckStart returns an error that matches [runner.ErrNotReady] while Slurm does not
// answer.
func (r *Runner) CheckStart(ctx context.Context) error {
	if _, err := r.queue.look(ctx, time.Now().Add(-3*r.cfg.Poll)); err != nil {
		return &runner.Error{
			Class: ClassSlurm, Text: "Slurm does not answer: " + err.Error(), Fix: "try: scontrol ping",
			Err: errors.Join(runner.ErrNotReady, err),
		}
	}
	return nil
}

// Sweep cancels this owner's jobs that no job claims.
func (r *Runner) Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error) {
	look, err := r.queue.look(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	var (
		ended []string
		errs  []error
	)
	for name, entries := range look.jobs {
		id := strings.TrimPrefix(name, r.prefix)
		if claimed(id) {
			continue
		}
		for _, e := range entries {
			if e.over() || look.at.Sub(e.Submitted) < grace {
				continue
			}
			if err := r.slurm.cancel(ctx, e.ID, name); err != nil {
				errs = append(errs, err)
				continue
			}
			ended = append(ended, id)
		}
	}
	return ended, errors.Join(errs...)
}
