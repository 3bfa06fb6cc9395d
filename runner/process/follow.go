package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/cgroup"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A follower brings one run to its end, or stops it.
type follower struct {
	job    runner.Job
	keeper keeper
	dir    *supervisor.Dir
	output *supervisor.Follower
	known  *supervisor.Claim // as read last: the file may be removed later
	group  cgroup.Group      // empty if it has none
}

// traces are by what the run's processes are found now.
func (f *follower) traces() *traces {
	return &traces{dir: f.keeper.dir, group: f.group, claim: f.claim()}
}

// newFollower follows the run in job's directory from byte from of its output.
func newFollower(job runner.Job, k keeper, from int64, out runner.Output) (*follower, error) {
	dir, err := supervisor.OpenDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the run: %w", err)
	}
	f := &follower{job: job, keeper: k, dir: dir}
	f.output = supervisor.NewFollower(dir, out, from, f.gone)
	return f, nil
}

// gone asks the keeper. Where the lock is damaged, the claim says whose end to look
// for.
func (f *follower) gone() (bool, error) {
	c := f.claim()
	gone, err := f.keeper.gone()
	if err == nil || base.Transient(err) || c == nil {
		return gone, err
	}
	return c.Boot != base.BootID() || !c.Supervisor.Alive(), nil
}

func (f *follower) close() {
	_ = f.output.Close() // it was only read
	_ = f.dir.Close()
}

// follow returns when the run has ended, or was stopped, or detached from.
func (f *follower) follow(ctx context.Context, resumable bool) (runner.Result, error) {
	err := f.output.Pump(ctx, time.Time{})
	switch {
	case err == nil:
		return f.result(ctx)
	case ctx.Err() == nil:
		return f.begun(), f.giveUp(err)
	}
	cause := context.Cause(ctx)
	if resumable && errors.Is(cause, runner.ErrDetach) {
		return f.begun(), cause
	}
	if err := f.stop(); err != nil {
		return f.begun(), fmt.Errorf("%w; %w", cause, err)
	}
	return f.begun(), cause
}

// giveUp ends a run that can't be followed because of err.
func (f *follower) giveUp(err error) error {
	if e := f.stop(); e != nil {
		return fmt.Errorf("%w: %w; %w", runner.ErrStillRunning, err, e)
	}
	return err
}

// begun returns what is known of a run that has not ended by itself.
func (f *follower) begun() runner.Result {
	result := runner.Result{Runner: kind}
	if c := f.claim(); c != nil {
		result.Started = c.At
	}
	return result
}

// result returns how a run that is gone ended.
func (f *follower) result(ctx context.Context) (runner.Result, error) {
	result := f.begun()
	if c := f.claim(); c != nil {
		// After a resume in the program that detached from the run, its supervisor
		// is this process's child and waits to be waited for.
		if p, ok := procfs.Lookup(c.Supervisor.PID); ok && p.Zombie && p.ID == c.Supervisor {
			_, _ = unix.Wait4(c.Supervisor.PID, nil, unix.WNOHANG, nil)
		}
	}
	end, err := base.Persist(ctx, func(err error) { f.output.Say("waiting for how the benchmark ended: %v", err) }, f.end)
	if base.Transient(err) {
		return result, context.Cause(ctx)
	}
	if err != nil {
		return result, err
	}
	f.traces().killStrays(killLimit)
	result.Ended = end.Ended
	if err := end.Err(); err != nil {
		if exit, ok := errors.AsType[*runner.ExitError](err); ok && f.rebooted() && (exit.Signal == "SIGTERM" || exit.Signal == "SIGKILL") {
			exit.Detail = "the machine was shut down or restarted while it ran"
		}
		return result, err
	}
	return result, f.output.Err()
}

// end returns how a run that is gone ended, or an error that says that it is
// lost.
func (f *follower) end() (supervisor.Exit, error) {
	if f.keeper.end != nil {
		return *f.keeper.end, nil
	}
	end, found, err := f.dir.Exit()
	switch c := f.claim(); {
	case base.Transient(err):
		return end, err
	case err != nil:
		return end, lost("how it ended can't be read: "+err.Error(), f.traces())
	case !found && c == nil:
		return end, lost("its supervisor ended before it began", f.traces())
	case !found && f.rebooted():
		return end, lost("the machine was restarted while it ran", f.traces())
	case !found:
		return end, lost("nothing is left that could say how it ended", f.traces())
	}
	return end, nil
}

// rebooted reports whether the machine was started since the run was begun.
func (f *follower) rebooted() bool {
	c := f.claim()
	return c != nil && c.Boot != "" && c.Boot != base.BootID()
}

// claim returns what is known of the run's processes, or nil.
func (f *follower) claim() *supervisor.Claim {
	if f.known != nil && f.known.Child.PID != 0 {
		return f.known // it does not change any more
	}
	if c, found, err := f.dir.Claim(); err == nil && found {
		f.known = &c
	}
	return f.known
}
