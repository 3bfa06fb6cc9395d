// Package process runs benchmarks through the kitt command of this machine.
//
// With a supervisor, a small process that outlives the agent, a run can be
// resumed; see [Config.Supervisor] and package runner/supervisor, which describes
// the files of a run. The benchmark's output goes into a file that the benchmark
// itself holds open, never through a pipe: neither a slow reader nor the end of
// the agent can slow it or end it.
//
// It needs Linux: it finds processes by way of /proc.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// Config says how benchmarks are run. Its zero value is ready for use.
type Config struct {
	// Command is the kitt command: a path, or a name that is looked up in PATH.
	// Empty means kitt.
	Command string

	// Arguments returns the words that follow Command for a job. Nil means those of
	// `kitt run`, [runner.Job.Arguments].
	Arguments func(runner.Job) []string

	// Env is the whole environment of the benchmark. Nil means what [Environment]
	// passes on of this program's own.
	Env []string

	// Supervisor is the command that calls Supervise with its last argument,
	// which is added here; it begins with an absolute path. Without one the
	// benchmark is a child of this process: Run then stops it on
	// runner.ErrDetach too, and of what the benchmark leaves behind only what
	// stayed in its process group is ended.
	Supervisor []string

	// Start starts a process, with which a program may choose the thread and so the
	// scheduling priority that the benchmark inherits. Nil means (*exec.Cmd).Start.
	Start func(*exec.Cmd) error

	// LogLimit is the most bytes that a run's output takes on the disk. Beyond it
	// the oldest output goes, and the job's log says what is missing if the agent
	// had not read it. It needs a supervisor, and a file system with holes. Zero
	// means [supervisor.DefaultLimit], and less than zero no limit.
	LogLimit int64
}

// A Runner runs the kitt command of this machine. Its files lie in the
// subdirectory process of the job's directory; it removes none of them.
type Runner struct{ config Config }

var (
	_ runner.Resumer    = (*Runner)(nil)
	_ runner.JobChecker = (*Runner)(nil)
)

// New returns a Runner.
func New(config Config) *Runner {
	if config.Command == "" {
		config.Command = "kitt"
	}
	if config.Arguments == nil {
		config.Arguments = runner.Job.Arguments
	}
	if config.Start == nil {
		config.Start = (*exec.Cmd).Start
	}
	return &Runner{config}
}

// kind is what this runner calls itself in results.
const kind = "process"

// Run runs job and follows it to its end. A missing command is an error that
// matches [runner.ErrUnavailable].
func (r *Runner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if ctx.Err() != nil {
		return runner.Result{}, context.Cause(ctx)
	}
	if err := r.CheckJob(job); err != nil {
		return runner.Result{}, err
	}
	path, err := r.command(job)
	if err != nil {
		return runner.Result{}, err
	}
	dir := directory(job)
	group := makeGroup(dir)
	s := spec{
		Version: version, Job: job.ID, Path: path, Args: r.config.Arguments(job), Env: append(r.environment(dir, job.GPUs), runner.PhaseVar+"="+job.PhaseFile()), Group: string(group),
		Supervised: len(r.config.Supervisor) > 0, Limit: supervisor.LimitOf(r.config.LogLimit), At: time.Now().UTC(),
	}
	defer group.Remove() // if nothing was started in it
	if err := out.WriteMessage(fmt.Sprintf("running %s on this machine", path)); err != nil {
		return runner.Result{}, fmt.Errorf("write to the job's log: %w", err)
	}
	// What can fail for want of files or room comes before the start, and is waited
	// out: a run that was begun is never left without a follower.
	waiting := func(err error) { _ = out.WriteMessage(fmt.Sprintf("waiting to start: %v", err)) }
	f, err := base.Persist(ctx, waiting, func() (*follower, error) { return r.begin(job, s, out) })
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	defer f.close()
	f.group = group
	return f.follow(ctx, s.Supervised)
}

// begin starts the run, and returns what follows it. With an error nothing was begun.
func (r *Runner) begin(job runner.Job, s spec, out runner.Output) (*follower, error) {
	dir := directory(job)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the run: %w", err)
	}
	for _, name := range []string{supervisor.ClaimFile, supervisor.ExitFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("run %s: %w: there is %s", job.ID, runner.ErrBegun, filepath.Join(dir, name))
		}
	}
	if err := writeState(dir, specFile, s); err != nil {
		return nil, fmt.Errorf("note down what is to be run: %w", err)
	}
	output, err := openOutput(dir)
	if err != nil {
		return nil, fmt.Errorf("make the file for the output: %w", err)
	}
	defer output.Close()
	f, err := newFollower(job, keeper{dir: dir}, 0, out)
	if err != nil {
		return nil, err
	}
	if s.Supervised {
		f.keeper, err = r.startSupervisor(dir, s.Env)
	} else {
		f.keeper, err = r.startChild(dir, s, output)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// Resume goes on with a run that has a supervisor. A run without one is lost
// with the agent that began it, and what is left of it is ended.
func (r *Runner) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if cause := context.Cause(ctx); errors.Is(cause, runner.ErrDetach) {
		return runner.Result{}, cause
	}
	dir := directory(job)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return runner.Result{}, r.withoutFiles(job, from)
	}
	f, err := base.Persist(ctx, nil, func() (*follower, error) {
		return newFollower(job, keeper{dir: dir}, int64(from), out)
	})
	if err != nil {
		return runner.Result{}, fmt.Errorf("%w: %w", runner.ErrStillRunning, base.JoinCause(ctx, err))
	}
	defer f.close()
	var found bool
	s, err := base.Persist(ctx, nil, func() (s spec, err error) {
		if s, found, err = readSpec(dir); err == nil && !found {
			err = f.unbegun()
		}
		return s, err
	})
	f.group = groupOf(dir, s.Group)
	switch {
	case errors.Is(context.Cause(ctx), runner.ErrDetach):
		return f.begun(), context.Cause(ctx)
	case errors.Is(err, supervisor.ErrVersion):
		return f.leaveAlone(ctx, err)
	case err != nil:
		text := "its files can't be read: " + err.Error()
		if e := f.stop(); e != nil {
			text += "; " + e.Error()
		}
		return runner.Result{}, lost(text, nil)
	case !found:
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	}
	if f.claim() != nil {
		return f.follow(ctx, s.Supervised)
	}
	never, err := base.Persist(ctx, nil, func() (bool, error) { return callOff(dir) })
	if err != nil {
		return f.begun(), f.giveUp(base.JoinCause(ctx, err))
	}
	if never {
		return runner.Result{}, fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
	}
	return f.follow(ctx, s.Supervised)
}

// withoutFiles returns the error for a job whose run has no directory. Either the run
// was not started, or its directory was removed. A supervisor without its directory is
// found by its command line, and ended with all that it runs.
func (r *Runner) withoutFiles(job runner.Job, from runner.Position) error {
	dir := directory(job)
	t := traces{dir: dir, group: groupOf(dir, "")}
	living, _ := t.living()
	found := len(living) > 0
	// Supervisors of older agents have nothing else to be found by.
	ended := procfs.Kill(func() []procfs.Process {
		ps := r.supervisors(dir)
		found = found || len(ps) > 0
		return ps
	}, killLimit)
	if !ended {
		return fmt.Errorf("%w: its files were removed, and it can't be killed", runner.ErrStillRunning)
	}
	if err := t.kill(killLimit); err != nil {
		return fmt.Errorf("its files were removed: %w", err)
	}
	if found || from > 0 {
		return lost("its files were removed", nil)
	}
	return fmt.Errorf("resume %s: %w", job.ID, runner.ErrNotStarted)
}

// supervisors returns the processes of the run in dir that still has a supervisor:
// what it runs, then itself.
func (r *Runner) supervisors(dir string) []procfs.Process {
	if len(r.config.Supervisor) == 0 {
		return nil
	}
	want := slices.Concat(r.config.Supervisor[1:], []string{dir})
	all := procfs.All()
	var found []procfs.Process
	for _, p := range all {
		if args := p.Args(); len(args) > 0 && slices.Equal(args[1:], want) {
			found = append(append(found, procfs.Descendants(all, p.PID)...), p)
		}
	}
	return found
}

// unbegun returns an error if a run that has no spec was begun all the same.
func (f *follower) unbegun() error {
	c, found, err := f.dir.Claim()
	if err == nil && found && c.Child.PID != 0 {
		err = fmt.Errorf("%s is missing", filepath.Join(f.keeper.dir, specFile))
	}
	return err
}

// callOff takes back a run that certainly was not begun, and says whether it
// was not. It holds the lock meanwhile, so that a supervisor that is late finds
// nothing to begin.
func callOff(dir string) (bool, error) {
	held, err := supervisor.Lock(dir)
	if err != nil || held == nil {
		return false, err
	}
	defer held.Close()
	for _, name := range []string{supervisor.ClaimFile, supervisor.ExitFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	return true, os.Remove(filepath.Join(dir, specFile))
}

// CheckJob returns what is missing on this machine to run job.
func (r *Runner) CheckJob(job runner.Job) error {
	kitt, err := r.command(job)
	if err != nil || job.Mode != runner.ModeNative {
		return err
	}
	return r.checkEngine(job, kitt)
}

// checkEngine returns an error if the engine of a native job is not installed. kitt also
// takes the Python packages of its own environment, so where that is not known it decides.
func (r *Runner) checkEngine(job runner.Job, kitt string) error {
	spec, known := engine.Lookup(job.Engine)
	if !known || spec.Module != "" && engine.Interpreter(kitt) == "" {
		return nil
	}
	var where engine.FinderConfig
	for _, v := range r.environment("", nil) {
		switch name, value, _ := strings.Cut(v, "="); name {
		case "PATH":
			where.Path = value
		case "HOME":
			where.Home = value
		}
	}
	_, err := engine.NewFinder(where).Find(spec)
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return &runner.Error{Class: runner.ClassUnavailable, Text: e.Text, Fix: e.Fix, Err: runner.ErrUnavailable}
	}
	return err
}

// command returns the path of kitt, or an error that says what job lacks.
func (r *Runner) command(job runner.Job) (string, error) {
	path, err := exec.LookPath(r.config.Command)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		fix := "kitt-agent build"
		if job.Mode == runner.ModeNative {
			fix = "install kitt on this machine, or choose engine_mode docker"
		}
		return "", &runner.Error{
			Class: runner.ClassUnavailable,
			Text:  fmt.Sprintf("the command %s is not installed on this machine", r.config.Command),
			Fix:   fix,
			Err:   errors.Join(runner.ErrUnavailable, err),
		}
	}
	return path, nil
}

// visibleGPUs is the variable that restricts CUDA to GPUs, by UUID or index (CUDA C++
// Programming Guide, Environment Variables). It binds programs that keep to it.
const visibleGPUs = "CUDA_VISIBLE_DEVICES"

// environment returns that of the run in dir, which gets these GPUs.
func (r *Runner) environment(dir string, gpus []string) []string {
	env := r.config.Env
	if env == nil {
		env, _ = Environment(os.Environ())
	}
	env = append(slices.Clone(env), markOf(dir))
	if len(gpus) > 0 && !slices.Contains(gpus, runner.AllGPUs) {
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, visibleGPUs+"=") })
		env = append(env, visibleGPUs+"="+strings.Join(gpus, ","))
	}
	return env
}

func directory(job runner.Job) string { return filepath.Join(job.Dir, kind) }

// lost returns the error for a run that is gone, after it has ended what is left of it
// by its traces, unless these are nil. It matches [runner.ErrStillRunning] too if that
// can't be done.
func lost(text string, t *traces) error {
	err := error(&runner.Error{Class: runner.ClassLost, Text: "the benchmark is gone: " + text, Err: runner.ErrLost})
	if t == nil {
		return err
	}
	if e := t.kill(killLimit); e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// startSupervisor starts the supervisor in a session of its own, with nothing
// of this process's in its hands.
func (r *Runner) startSupervisor(dir string, env []string) (keeper, error) {
	command := r.config.Supervisor
	args := append(append([]string(nil), command[1:]...), dir)
	cmd := exec.Command(command[0], args...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := r.config.Start(cmd); err != nil {
		return keeper{}, fmt.Errorf("start the supervisor: %w", err)
	}
	k := keeper{dir: dir, pid: cmd.Process.Pid}
	// The keeper waits for it by its PID, without a goroutine that would stay
	// when the run is detached from.
	return k, cmd.Process.Release()
}

// startChild starts the benchmark as a child of this process.
func (r *Runner) startChild(dir string, s spec, output *os.File) (keeper, error) {
	state := supervisor.Claim{Version: supervisor.Version, Boot: base.BootID(), At: time.Now().UTC()}
	if err := writeState(dir, supervisor.ClaimFile, state); err != nil {
		return keeper{}, fmt.Errorf("note down that the run begins: %w", err)
	}
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, s.Env, output, output
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	kills := supervisor.OOMKills()
	if err := r.config.Start(cmd); err != nil {
		return keeper{}, supervisor.NotStartable(err.Error())
	}
	child, _ := procfs.Lookup(cmd.Process.Pid)
	state.Child = procfs.ID{PID: cmd.Process.Pid, Start: child.Start}
	k := keeper{dir: dir, pid: cmd.Process.Pid, child: &state, kills: kills}
	if g := groupOf(dir, s.Group); g != "" {
		_ = g.Add(cmd.Process.Pid) // else its environment tells
	}
	err := errors.Join(cmd.Process.Release(), state.WriteSoon(dir))
	if err != nil {
		procfs.Kill(func() []procfs.Process { return left(state) }, killLimit)
		k.gone()
		return keeper{}, fmt.Errorf("note down which process runs it: %w", err)
	}
	return k, nil
}
