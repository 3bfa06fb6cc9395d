package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
)

// The file of the output is looked at every pollMin while it grows, and ever
// less often, down to every pollMax, while it doesn't, and in a flood.
const (
	pollMin = 5 * time.Millisecond
	pollMax = 50 * time.Millisecond
	flood   = 16 << 10 // bytes at one look that are more than anybody reads along
)

// killLimit is how long a killed process gets to be gone.
const killLimit = 10 * time.Second

// drainLimit is how long the output of a run that was stopped may take.
const drainLimit = time.Second

// chunk is how much of the output is read at once, in bytes.
const chunk = 256 << 10

// A keeper knows whether a run still has someone who waits for it: its
// supervisor, or this process itself.
type keeper struct {
	dir   string
	pid   int      // the process that this one started and has to wait for; 0 if none
	child *started // set if that is the benchmark itself
	end   *exit    // how that ended
	kills int64    // see oomKills; from before the child was started
}

// gone says whether nobody waits for the benchmark any more: it has ended and so
// have the processes that it left behind, or the supervisor died.
func (k *keeper) gone() (bool, error) {
	if k.pid != 0 {
		var status unix.WaitStatus
		got, err := unix.Wait4(k.pid, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) || err == nil && got == 0 {
			return false, nil
		}
		k.pid = 0
		if k.child != nil {
			if err != nil {
				return true, fmt.Errorf("wait for the benchmark: %w", err)
			}
			end := exitOf(status, oomKills() > k.kills)
			k.end = &end
			// For an agent that comes later. This one knows it, also where the
			// disk is full.
			_ = writeState(k.dir, exitFile, end)
			killAll(k.child.left, killLimit)
			return true, nil
		}
	}
	if k.child != nil {
		return true, nil
	}
	// This program's supervisor may have found that one of an earlier program
	// has the run, so its end alone says nothing.
	held, err := lock(k.dir)
	if err != nil || held == nil {
		return false, err
	}
	return true, held.Close()
}

// A follower brings the output of one run to its Output.
type follower struct {
	dir    string
	job    runner.Job
	out    runner.Output
	keeper keeper
	offset int64 // in the output, of what comes next

	file   *os.File
	buf    []byte
	outErr error // the first error of out
}

// follow returns when the run has ended, or was stopped, or let go of.
func (f *follower) follow(ctx context.Context, resumable bool) (runner.Result, error) {
	file, err := os.Open(filepath.Join(f.dir, outputFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return runner.Result{}, fmt.Errorf("open the output: %w", err)
	}
	if err == nil {
		f.file, f.buf = file, make([]byte, chunk)
		defer file.Close()
	}
	err = f.pump(ctx, time.Time{})
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
	err = f.stop()
	if err != nil {
		return f.begun(), fmt.Errorf("%w; %w", cause, err)
	}
	return f.begun(), cause
}

// errLate is what pump returns at its deadline.
var errLate = errors.New("it has not ended in time")

// pump passes output on until the run is gone and all of its output is read. It
// gives up when ctx is done, and at the deadline if there is one, also while
// there is more to read: a benchmark may print faster than it is listened to.
func (f *follower) pump(ctx context.Context, deadline time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for wait := pollMin; ; {
		// Asked before reading: what was printed up to the end is read then.
		gone, err := f.keeper.gone()
		if err != nil {
			return err
		}
		n, err := f.read()
		if err != nil {
			return err
		}
		switch {
		case n == chunk:
			wait = 0 // there is more
		case gone:
			return nil
		case n > flood:
			// Fewer and larger reads disturb a benchmark less that prints as
			// fast as it can; its readers don't notice.
			wait = pollMax
		case n > 0:
			wait = pollMin
		default:
			wait = min(max(wait*2, pollMin), pollMax)
		}
		if !deadline.IsZero() && time.Now().After(deadline) {
			return errLate
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if wait == 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// read passes on one piece of the output, of at most chunk bytes, and returns
// its length.
func (f *follower) read() (int, error) {
	if f.file == nil {
		return 0, nil
	}
	n, err := f.file.ReadAt(f.buf, f.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read the output: %w", err)
	}
	if n == 0 {
		return 0, f.mindTruncation()
	}
	f.note(f.out.WriteOutput(f.buf[:n], time.Time{}, runner.Position{Byte: f.offset}))
	f.offset += int64(n)
	return n, nil
}

// mindTruncation begins again at the start of a file that somebody has cut off
// before the place that was reached.
func (f *follower) mindTruncation() error {
	info, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	if info.Size() >= f.offset {
		return nil
	}
	f.note(f.out.WriteMessage(fmt.Sprintf("the file with the benchmark's output became shorter, from %d bytes to %d, "+
		"so that lines may be missing: reading it again from its start", f.offset, info.Size())))
	f.offset = 0
	return nil
}

// note keeps the first error of the job's log. A log that can't be written is
// no reason to end a benchmark.
func (f *follower) note(err error) {
	if err != nil && f.outErr == nil {
		f.outErr = fmt.Errorf("write to the job's log: %w", err)
	}
}

// begun returns what is known of a run that has not ended by itself.
func (f *follower) begun() runner.Result {
	result := runner.Result{Runner: kind}
	if s, found, err := readState[started](f.dir, startedFile); err == nil && found {
		result.Started = s.At
	}
	return result
}

// result returns how a run that is gone ended.
func (f *follower) result() (runner.Result, error) {
	result := f.begun()
	if s := f.state(); s != nil {
		// After a resume in the program that let go of the run, its supervisor is
		// this process's child and waits to be waited for.
		if p, ok := lookup(s.Super.PID); ok && p.zombie && p.identity == s.Super {
			_, _ = unix.Wait4(s.Super.PID, nil, unix.WNOHANG, nil)
		}
	}
	end, err := f.end()
	if err != nil {
		return result, err
	}
	result.Ended = end.Ended
	switch {
	case end.Error != "":
		return result, notStartable(end.Error)
	case end.Code != 0:
		return result, &runner.ExitError{Code: end.Code, Signal: end.Signal, OOMKilled: end.OOM}
	}
	return result, f.outErr
}

// end returns how a run that is gone ended, or an error that says that it is
// lost.
func (f *follower) end() (exit, error) {
	if f.keeper.end != nil {
		return *f.keeper.end, nil
	}
	end, found, err := readState[exit](f.dir, exitFile)
	switch s := f.state(); {
	case err != nil:
		return end, lost("how it ended can't be read: "+err.Error(), s)
	case !found && s == nil:
		return end, lost("its supervisor ended before it began", nil)
	case !found:
		return end, lost("nothing is left that could say how it ended", s)
	}
	return end, nil
}

// state returns what is known of the run's processes, or nil.
func (f *follower) state() *started {
	s, found, err := readState[started](f.dir, startedFile)
	if err != nil || !found {
		return nil
	}
	return &s
}

// stop ends the run: SIGTERM to the benchmark's group, the grace, SIGKILL to all
// that comes from it. It returns once all of it is gone, and passes its last
// words on meanwhile.
func (f *follower) stop() error {
	ctx := context.Background()
	s := f.state()
	for end := time.Now().Add(f.job.Grace()); s == nil || s.Child.PID == 0; s = f.state() {
		// It is being started, which takes moments.
		if err := f.pump(ctx, time.Now().Add(pollMin)); !errors.Is(err, errLate) {
			return err
		}
		if time.Now().After(end) {
			break
		}
	}
	if s == nil {
		// The supervisor is held up, by the disk for one. It looks for the spec
		// again before it starts anything.
		if err := os.Remove(filepath.Join(f.dir, specFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w once it starts: call it off: %w", runner.ErrStillRunning, err)
		}
		if s = f.state(); s == nil {
			return nil
		}
	}
	// Without a supervisor what has left the group is found as long as its parent
	// lives, so it is looked for before anything ends.
	ours := map[identity]proc{}
	find := func() {
		found := s.left()
		if s.Super.alive() {
			found = descendants(processes(), s.Super.PID)
		}
		for _, p := range found {
			ours[p.identity] = p
		}
	}
	living := func() []proc {
		var found []proc
		for id, p := range ours {
			if id.alive() {
				found = append(found, p)
			}
		}
		return found
	}
	find()
	if s.Child.alive() {
		// It may have ended just now.
		_ = unix.Kill(-s.Child.PID, unix.SIGTERM)
	}
	err := f.pump(ctx, time.Now().Add(f.job.Grace()))
	for end := time.Now().Add(killLimit); errors.Is(err, errLate) && time.Now().Before(end); {
		if gone, _ := f.keeper.gone(); gone {
			err = f.drain()
			break
		}
		find()
		signalAll(living(), unix.SIGKILL)
		err = f.pump(ctx, time.Now().Add(pollMin))
	}
	hangs := errors.Is(err, errLate)
	if hangs {
		ours[s.Super] = proc{identity: s.Super} // the supervisor itself
	}
	// What was killed takes a moment to be gone.
	if !killAll(living, killLimit) {
		return fmt.Errorf("%w: parts of it can't be killed", runner.ErrStillRunning)
	}
	if hangs {
		return f.drain()
	}
	return err
}

// drain passes on what a run that was stopped had printed, as far as that goes
// within drainLimit, and says how much is left out.
func (f *follower) drain() error {
	err := f.pump(context.Background(), time.Now().Add(drainLimit))
	if !errors.Is(err, errLate) {
		return err
	}
	info, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the output: %w", err)
	}
	return f.out.WriteMessage(fmt.Sprintf("the last %d bytes that the benchmark printed are left out, because it was stopped",
		info.Size()-f.offset))
}
