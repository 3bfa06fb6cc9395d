package process

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"golang.org/x/sys/unix"
)

// Exit statuses of Supervise.
const (
	superviseOK     = 0 // the run has ended and how is written down
	superviseFailed = 1 // it could not be begun, or how it ended could not be written
	superviseBusy   = 3 // another supervisor has it, or it was begun before, or it was called off
)

// strayGrace is what processes that the benchmark left behind get between
// SIGTERM and SIGKILL.
const strayGrace = time.Second

// fullRetry is how often how a run ended is tried to be written to a disk that
// is full.
const fullRetry = time.Second

// Supervise runs the benchmark that dir, a job's process directory, describes,
// waits for its end and writes down how it ended. It returns the status for the
// program to exit with.
//
// It is the whole of the program that Config.Supervisor names, whose only task
// is to outlive the agent: it needs a process to itself, because it ignores
// SIGHUP, SIGINT and SIGTERM for good and adopts and waits for every process
// that the benchmark leaves behind.
func Supervise(dir string) int {
	// Not signal.Ignore, which the child would inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	held, err := lock(dir)
	if err != nil {
		return superviseFailed
	}
	if held == nil {
		return superviseBusy
	}
	defer held.Close()
	// From here on nobody else starts the run. Whether somebody did before is
	// seen from started.json, and a spec.json that is gone was taken back.
	s, found, err := readState[spec](dir, specFile)
	if err != nil {
		return superviseFailed
	}
	_, begun, err := readState[started](dir, startedFile)
	if err != nil {
		return superviseFailed
	}
	if !found || begun {
		return superviseBusy
	}
	if err := supervise(dir, s); err != nil {
		return superviseFailed
	}
	return superviseOK
}

func supervise(dir string, s spec) error {
	self, ok := lookup(os.Getpid())
	if !ok {
		return errors.New("no entry of this process below /proc")
	}
	out, err := openOutput(dir)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	reserve(out)

	// Written before the start: after a crash in between the run counts as lost,
	// and is not begun again.
	state := started{Version: version, Boot: base.BootID(), Super: self.identity, At: time.Now().UTC()}
	if err := writeState(dir, startedFile, state); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, specFile)); err != nil {
		return fmt.Errorf("called off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	kills := oomKills()
	pid, err := syscall.ForkExec(s.Path, append([]string{s.Path}, s.Args...), &syscall.ProcAttr{
		Dir:   dir,
		Env:   s.Env,
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return writeState(dir, exitFile, exit{
			Version: version, Error: fmt.Sprintf("%s: %v", s.Path, err), Ended: time.Now().UTC(),
		})
	}
	// It can't be gone from the table before it is waited for.
	child, _ := lookup(pid)
	state.Child, state.At = identity{PID: pid, Start: child.Start}, time.Now().UTC()
	if err := writeStateLater(dir, startedFile, state); err != nil {
		// Nobody could ever stop it.
		killAll(func() []proc { return descendants(processes(), self.PID) }, time.Minute)
		return err
	}

	status, err := waitWithReserve(pid, out)
	if err != nil {
		endStrays(self.PID)
		return err
	}
	end := exitOf(status, oomKills() > kills)
	err = writeState(dir, exitFile, end)
	endStrays(self.PID)
	giveBack(out)
	for errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		// Only this process knows how the run ended: it stays until there is
		// room for that, and the agent takes the run for unfinished meanwhile.
		time.Sleep(fullRetry)
		err = writeState(dir, exitFile, end)
	}
	return err
}

// waitWithReserve waits for the process pid and meanwhile keeps room on the disk
// for what it prints.
func waitWithReserve(pid int, out *os.File) (unix.WaitStatus, error) {
	var keeping sync.WaitGroup
	done := make(chan struct{})
	keeping.Go(func() { keepReserve(out, done) })
	defer keeping.Wait()
	defer close(done)
	return wait(pid)
}

// wait returns how the process pid ended. Orphans that were adopted and end
// before it are waited for in passing.
func wait(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("wait for the benchmark: %w", err)
		}
		if err == nil && got == pid {
			return status, nil
		}
	}
}

func exitOf(status unix.WaitStatus, oom bool) exit {
	e := exit{Version: version, Code: status.ExitStatus(), Ended: time.Now().UTC()}
	if status.Signaled() {
		e.Code = 128 + int(status.Signal())
		e.Signal = unix.SignalName(status.Signal())
	}
	e.OOM = oom && e.Code == 128+int(unix.SIGKILL)
	return e
}

// endStrays ends what the benchmark left behind. All of it has become a child
// of this process, or comes from one.
func endStrays(self int) {
	left := func() []proc {
		for {
			if got, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); got <= 0 || err != nil {
				break
			}
		}
		return descendants(processes(), self)
	}
	signalAll(left(), unix.SIGTERM)
	for end := time.Now().Add(strayGrace); len(left()) > 0 && time.Now().Before(end); {
		time.Sleep(pollMin)
	}
	killAll(left, time.Minute)
}
