package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// A Config says what to run and where.
type Config struct {
	// Dir is the run's directory. It exists.
	Dir string

	// Command is the program, looked up in PATH unless it has a slash, and its
	// arguments.
	Command []string

	// Env is the program's whole environment. Nil means this process's own.
	Env []string

	// WorkDir is the directory that the program starts in. Empty means this
	// process's own.
	WorkDir string

	// Limit is the most bytes of output that are kept on the disk. Zero means
	// no ceiling other than the disk's own.
	Limit int64

	// GPUs is how many GPUs the program has to see at least, by their files in /dev, and
	// GPUsOnly whether it may see no more. A program that sees others is not begun. Zero
	// for GPUs checks nothing.
	GPUs     int
	GPUsOnly bool

	// Forward passes the signals that ask a program to end, or tell it something,
	// on to the program and what it started. Otherwise they are ignored: a local
	// run is stopped by signals to the program itself.
	Forward bool

	// Shared is set where other machines read Dir. Nil means a directory of this
	// machine.
	Shared *Shared

	// Ended is called when the benchmark has ended, and what is left of it that this
	// process can see. It ends what else the benchmark has started, such as a
	// container. Nil means that there is nothing.
	Ended func()

	// Wanted is asked before the claim and again after it. An error calls the
	// run off. Nil means that it is wanted.
	Wanted func() error
}

// Run runs the benchmark that cfg describes, waits for its end and writes down
// how it ended. The error matches [ErrTaken] if it was begun before.
//
// It needs a process to itself: it changes how signals are treated, for good,
// and adopts and waits for every process that the benchmark leaves behind.
func Run(cfg Config) (Exit, error) {
	if cfg.Wanted == nil {
		cfg.Wanted = func() error { return nil }
	}
	signals := catch(cfg.Forward)
	held, err := lockSoon(cfg.Dir)
	if err != nil {
		return Exit{}, err
	}
	if held == nil {
		return Exit{}, fmt.Errorf("%w, and its supervisor lives", ErrTaken)
	}
	defer held.Close()
	if err := cfg.Wanted(); err != nil {
		return Exit{}, fmt.Errorf("called off: %w", err)
	}
	c, err := persist(func() (Claim, error) { return claim(cfg.Dir, cfg.label()) })
	if err != nil {
		return Exit{}, err
	}
	return run(cfg, c, signals)
}

// label returns what the claim says of the scheduler.
func (cfg Config) label() string {
	if cfg.Shared == nil {
		return ""
	}
	return cfg.Shared.Label
}

// lockSoon takes the lock, and waits a little for one that isn't a supervisor's:
// an agent that looks whether the run lives, or calls it off, has it for a moment.
func lockSoon(dir string) (*os.File, error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		held, err := persist(func() (*os.File, error) { return Lock(dir) })
		if err != nil || held != nil || time.Now().After(end) {
			return held, err
		}
		if _, err := os.Lstat(filepath.Join(dir, ClaimFile)); err == nil {
			return nil, nil
		}
	}
}

const (
	lockWait  = time.Second
	lockPause = 10 * time.Millisecond
)

// run runs what was claimed.
func run(cfg Config, c Claim, signals *signals) (Exit, error) {
	out, err := createOutput(cfg.Dir)
	if err != nil {
		return Exit{}, err
	}
	defer out.Close()
	null, err := persist(func() (*os.File, error) { return os.Open(os.DevNull) })
	if err != nil {
		return Exit{}, err
	}
	defer null.Close()
	ending := newEnding(cfg.Dir)
	defer ending.close()
	room := newSpace(cfg.Dir, out, cfg.Limit)
	defer room.close()
	if err := cfg.Wanted(); err != nil {
		return Exit{}, fmt.Errorf("called off: %w", err)
	}
	shared := newBeacon(cfg, out)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return Exit{}, fmt.Errorf("adopt orphans: %w", err)
	}

	end := cfg.checkGPUs(Exit{Version: Version, Boot: c.Boot, Devices: gpuDevices(os.DirFS("/dev")), Started: time.Now().UTC()})
	kills := OOMKills()
	pid := 0
	if end.Error == "" {
		if pid, err = start(cfg, null, out); err != nil {
			end.Error = err.Error()
		}
	}
	if end.Error != "" {
		end.Ended = time.Now().UTC()
		err := ending.write(end)
		shared.ended(end)
		shared.finish()
		return end, err
	}
	// It can't be gone from the table before it is waited for.
	child, _ := procfs.Lookup(pid)
	c.Child, c.At = procfs.ID{PID: pid, Start: child.Start}, end.Started
	if err := c.WriteSoon(cfg.Dir); err != nil && !base.Transient(err) {
		// Nobody could ever stop it.
		procfs.Kill(func() []procfs.Process { return procfs.Descendants(procfs.All(), os.Getpid()) }, time.Minute)
		return end, err
	}

	stopForwarding := signals.forwardTo(pid)
	stopKeeping := room.keep()
	stopSharing := shared.keep(pid, signals)
	status, err := wait(pid)
	stopSharing()
	stopKeeping()
	stopForwarding()
	if err != nil {
		endStrays()
		return end, err
	}
	end.set(status, OOMKills() > kills)
	shared.end(&end)
	err = ending.write(end)
	shared.ended(end)
	endStrays()
	if cfg.Ended != nil {
		cfg.Ended()
	}
	room.giveBack()
	if base.Transient(err) {
		// Only this process knows how the run ended: it stays until that can be
		// written, and the agent takes the run for unfinished meanwhile.
		_, err = persist(func() (Exit, error) { return end, ending.write(end) })
	}
	shared.finish()
	return end, err
}

// persist is [base.Persist] without an end: a full disk or too many open files don't
// end a run.
func persist[T any](do func() (T, error)) (T, error) {
	return base.Persist(context.Background(), nil, do)
}

// createOutput makes the file that the benchmark prints to.
func createOutput(dir string) (*os.File, error) {
	path := filepath.Join(dir, OutputFile)
	out, err := persist(func() (*os.File, error) { return create(path, os.O_APPEND) })
	if err != nil {
		return nil, err
	}
	if info, err := out.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, errNotPlain), err, out.Close())
	}
	return out, nil
}

// start starts the program with both streams on out and returns its PID.
func start(cfg Config, null, out *os.File) (int, error) {
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return 0, err
	}
	env := cfg.Env
	if env == nil {
		env = os.Environ()
	}
	pid, err := syscall.ForkExec(path, cfg.Command, &syscall.ProcAttr{
		Dir:   cfg.WorkDir,
		Env:   env,
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pid, nil
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

// ExitOf returns how a program ended that was waited for. oom says whether the
// kernel killed for want of memory meanwhile.
func ExitOf(status unix.WaitStatus, oom bool) Exit {
	e := Exit{Version: Version, Boot: base.BootID()}
	e.set(status, oom)
	return e
}

func (e *Exit) set(status unix.WaitStatus, oom bool) {
	e.Code, e.Ended = status.ExitStatus(), time.Now().UTC()
	if status.Signaled() {
		e.Code = 128 + int(status.Signal())
		e.Signal = unix.SignalName(status.Signal())
	}
	e.OOM = oom && e.Code == 128+int(unix.SIGKILL)
}
