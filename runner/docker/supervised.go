package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// runDirName is the directory in Job.Dir that the container sees, and all that it
// sees of the job but its results. Any user may write there who gets that far:
// Job.Dir keeps others out, and the container's user may be any.
const (
	runDirName = "run"
	runDirMode = 0o777
)

func runDir(job runner.Job) string { return filepath.Join(job.Dir, runDirName) }

// makeRunFiles makes the job's run directory, before anybody else can write to it.
func makeRunFiles(job runner.Job, out runner.Output) (*runFiles, error) {
	path := runDir(job)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the directory of the run: %w", err)
	}
	s, err := openRunFiles(job, out, 0)
	if err != nil {
		return nil, err
	}
	begun, err := s.dir.Claimed()
	if err == nil && begun {
		err = fmt.Errorf("run %s: %w: there are files in %s", job.ID, runner.ErrBegun, path)
	}
	if err == nil {
		err = os.Chmod(path, runDirMode) // whatever the umask is
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openRunFiles opens the job's run directory, to follow the output from byte from
// on.
func openRunFiles(job runner.Job, out runner.Output, from int64) (*runFiles, error) {
	dir, err := supervisor.OpenDir(runDir(job))
	if err != nil {
		return nil, fmt.Errorf("open the directory of the run: %w", err)
	}
	s := &runFiles{dir: dir, doubt: make(chan struct{}, 1)}
	s.output = supervisor.NewFollower(dir, out, from, s.gone)
	return s, nil
}

// claimed reports whether the job's benchmark was begun by a supervisor, or may have
// been.
func claimed(job runner.Job) bool {
	begun, err := readClaimed(job)
	return begun || err != nil
}

// readClaimed is claimed, but says if that can't be known now. The error is the
// machine's; see base.Transient.
func readClaimed(job runner.Job) (bool, error) {
	dir, err := supervisor.OpenDir(runDir(job))
	if base.Transient(err) {
		return false, err
	}
	if err != nil {
		return false, nil
	}
	defer dir.Close()
	begun, err := dir.Claimed()
	if base.Transient(err) {
		return false, err
	}
	return begun || err != nil, nil
}

// runFiles is the source of a supervised container: the files of its supervisor
// say what it printed and how it ended. What the engine says is a hint, asked for
// only where they are missing.
type runFiles struct {
	f      *follower
	dir    *supervisor.Dir
	output *supervisor.Follower
	begun  bool          // whether the benchmark was claimed
	since  time.Time     // when that was looked at first
	doubt  chan struct{} // asks watch whether the container lives
	over   atomic.Bool   // whether it is known that it doesn't
}

func (s *runFiles) close() error { return errors.Join(s.output.Close(), s.dir.Close()) }

func (s *runFiles) toEnd(ctx context.Context) error {
	if s.f.rec.Boot != base.BootID() {
		s.over.Store(true) // the machine was restarted since
	}
	watchCtx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(watchCtx)
	}()
	err := s.output.Pump(ctx, time.Time{})
	cancel()
	<-watched
	if e := s.output.Err(); e != nil {
		s.f.keep(e)
	}
	return err
}

// startTime is how long a container may take to begin before the engine is asked
// about it.
const startTime = 200 * time.Millisecond

// gone reports whether nothing of the container writes any more.
func (s *runFiles) gone() (bool, error) {
	if s.over.Load() {
		return true, nil
	}
	if !s.begun {
		var err error
		if s.begun, err = s.dir.Claimed(); err != nil {
			return false, err
		}
	}
	// The lock isn't touched before the claim: see supervisor.Dir.Held.
	if s.begun {
		if held, err := s.dir.Held(); err != nil || held {
			return false, err
		}
		if _, found, _ := s.dir.Exit(); found {
			return true, nil
		}
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	if s.begun || time.Since(s.since) > startTime {
		select {
		case s.doubt <- struct{}{}:
		default:
		}
	}
	return false, nil
}

// watch asks the engine whether the container lives, when that is in doubt, until
// it doesn't. An engine that is away is waited for.
func (s *runFiles) watch(ctx context.Context) {
	var dead time.Time // when the kernel said first that nothing of it lives
	for wait := retryPause; ; wait = lookPause {
		select {
		case <-ctx.Done():
			return
		case <-s.doubt:
		}
		state, err := s.f.known(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil || ended(state):
			s.over.Store(true)
			return
		case !s.f.hasEnded():
			dead = time.Time{}
		case dead.IsZero():
			dead = time.Now()
		case time.Since(dead) > deadLook:
			s.over.Store(true)
			return
		}
		if base.Wait(ctx, wait) != nil {
			return
		}
	}
}

// rest passes on what a container that was stopped had printed.
func (s *runFiles) rest(context.Context) error {
	s.over.Store(true)
	return s.output.Drain()
}

// outcome returns how the container ended: as exit.json says. Without one the
// supervisor was killed, which only the engine may know.
func (s *runFiles) outcome(ctx context.Context) (*end, error) {
	var found bool
	exit, err := patiently(ctx, s.output.Say, func() (exit supervisor.Exit, err error) {
		exit, found, err = s.dir.Exit()
		return exit, err
	})
	switch {
	case base.Transient(err):
		return nil, base.JoinCause(ctx, err)
	case err != nil:
		return nil, lost("how it ended can't be read: " + err.Error())
	case found:
		if exit.Fault != "" {
			return nil, s.f.wrongGPUs(ctx, exit)
		}
		if exit.Error != "" {
			return nil, s.f.notBegun(exit.Error, false)
		}
		return &end{
			SeenGPUs: s.f.seenGPUs(exit), Code: exit.Code, Signal: exit.Signal, Started: exit.Started, Finished: exit.Ended,
			OOM: exit.OOM || s.f.rec.kernelKilled(exit.Code, kernelKills(), base.BootID()),
		}, nil
	case s.f.rec.Boot != base.BootID():
		return nil, lost("the machine was restarted while it ran")
	}
	begun, err := s.dir.Claimed()
	if err != nil {
		return nil, err
	}
	state, err := s.f.known(ctx)
	if err != nil {
		return nil, err
	}
	if begun && !ended(state) {
		return nil, stuck()
	}
	e := &end{
		Code: state.ExitCode, Detail: state.Error, Started: moment(state.StartedAt), Finished: moment(state.FinishedAt),
		OOM: state.OOMKilled || s.f.rec.kernelKilled(state.ExitCode, kernelKills(), base.BootID()),
	}
	switch e.Code {
	case 0, supervisor.StatusDone, supervisor.StatusTaken, supervisor.StatusFailed:
		if begun {
			return nil, lost("its supervisor ended and did not write how the benchmark did" + s.f.lastWords(ctx))
		}
	}
	if !begun {
		return nil, s.f.notBegun(fmt.Sprintf("its container ended with status %d%s", e.Code, s.f.lastWords(ctx)), e.Code > 128)
	}
	if e.Code > 128 {
		e.Signal = unix.SignalName(unix.Signal(e.Code - 128))
	}
	return e, nil
}
