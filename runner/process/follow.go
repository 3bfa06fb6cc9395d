package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A follower brings one run to its end, or stops it.
type follower struct {
	job    runner.Job
	keeper keeper
	dir    *supervisor.Dir
	output *supervisor.Follower
}

// newFollower follows the run in job's directory from byte from of its output.
func newFollower(job runner.Job, k keeper, from int64, out runner.Output) (*follower, error) {
	dir, err := supervisor.OpenDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the run: %w", err)
	}
	f := &follower{job: job, keeper: k, dir: dir}
	f.output = supervisor.NewFollower(dir, out, from, f.keeper.gone)
	return f, nil
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
		return f.result()
	case ctx.Err() == nil:
		return runner.Result{}, err
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

// begun returns what is known of a run that has not ended by itself.
func (f *follower) begun() runner.Result {
	result := runner.Result{Runner: kind}
	if c := f.claim(); c != nil {
		result.Started = c.At
	}
	return result
}

// result returns how a run that is gone ended.
func (f *follower) result() (runner.Result, error) {
	result := f.begun()
	if c := f.claim(); c != nil {
		// After a resume in the program that detached from the run, its supervisor
		// is this process's child and waits to be waited for.
		if p, ok := procfs.Lookup(c.Supervisor.PID); ok && p.Zombie && p.ID == c.Supervisor {
			_, _ = unix.Wait4(c.Supervisor.PID, nil, unix.WNOHANG, nil)
		}
	}
	end, err := f.end()
	if err != nil {
		return result, err
	}
	result.Ended = end.Ended
	if err := end.Err(); err != nil {
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
	case err != nil:
		return end, lost("how it ended can't be read: "+err.Error(), c)
	case !found && c == nil:
		return end, lost("its supervisor ended before it began", nil)
	case !found:
		return end, lost("nothing is left that could say how it ended", c)
	}
	return end, nil
}

// claim returns what is known of the run's processes, or nil.
func (f *follower) claim() *supervisor.Claim {
	c, found, err := f.dir.Claim()
	if err != nil || !found {
		return nil
	}
	return &c
}
