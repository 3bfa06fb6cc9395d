// Package launch finds out how the running agent was started, and starts a
// program in its place in the same way.
//
// It is for an agent that no service manager looks after; where systemd does,
// [Process.Unit] names the unit to restart.
package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxText is how much of a file in proc(5) is read, in bytes.
const maxText = 4 << 20

// A Process is how a running program was started.
type Process struct {
	PID  int
	Exe  string   // its program; the kernel adds " (deleted)" where it has no name any more
	Args []string // with its own name
	Dir  string   // working directory
	UID  int

	// Unit is the service that its control group is named for, empty if it is in
	// none. It need not be the service's main process.
	Unit     string
	UserUnit bool // whether the service is of the user's own systemd

	env            []string // may hold secrets
	stdout, stderr string   // names that open what the process writes to
}

// Inspect reads how a process was started. Only its own user and root may.
func Inspect(pid int) (*Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	p := &Process{PID: pid, stdout: output(dir, 1), stderr: output(dir, 2)}
	var stat unix.Stat_t
	var errs [5]error
	errs[0] = unix.Stat(dir, &stat)
	p.UID = int(stat.Uid)
	p.Exe, errs[1] = os.Readlink(filepath.Join(dir, "exe"))
	p.Dir, errs[2] = os.Readlink(filepath.Join(dir, "cwd"))
	p.Args, errs[3] = list(filepath.Join(dir, "cmdline"))
	p.env, errs[4] = list(filepath.Join(dir, "environ"))
	if err := errors.Join(errs[:]...); errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("process %d is another user's", pid)
	} else if err != nil {
		return nil, fmt.Errorf("find out how process %d was started: %w", pid, err)
	}
	groups, err := read(filepath.Join(dir, "cgroup"))
	if err != nil {
		return nil, err
	}
	p.Unit, p.UserUnit = unit(string(groups))
	return p, nil
}

// unit returns the service that a process's control groups (cgroups(7)) are
// named for: in version 2 the line "0::", in version 1 that of systemd.
func unit(groups string) (name string, user bool) {
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		if base := path.Base(fields[2]); strings.HasSuffix(base, ".service") && !strings.HasPrefix(base, "user@") {
			return base, strings.Contains(fields[2], "/user@")
		}
	}
	return "", false
}

// Start starts the program at path as p was started: with its arguments,
// environment and directory, and writing where it wrote if that was a file. The process is a session of its own and outlives this one.
func (p *Process) Start(path string) (*Child, error) {
	if len(p.Args) == 0 {
		return nil, errors.New("the agent's command line is not known")
	}
	stdout, err := openOutput(p.stdout)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := openOutput(p.stderr)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd := &exec.Cmd{
		Path: path, Args: append([]string{path}, p.Args[1:]...), Env: p.env, Dir: p.Dir,
		Stdout: stdout, Stderr: stderr,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	child := &Child{pid: cmd.Process.Pid}
	return child, cmd.Process.Release()
}

// Hold keeps the files that p writes to open beyond its end, so that Start finds
// them. The caller closes what it returns.
func (p *Process) Hold() io.Closer {
	var held closers
	for _, name := range []string{p.stdout, p.stderr} {
		if f, err := openOutput(name); err == nil {
			held = append(held, f)
		}
	}
	p.stdout, p.stderr = held.name(0), held.name(1)
	return held
}

type closers []*os.File

func (c closers) Close() error {
	var errs []error
	for _, f := range c {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// name returns a name for the file in this process.
func (c closers) name(i int) string {
	if i >= len(c) {
		return os.DevNull
	}
	return fmt.Sprintf("/proc/self/fd/%d", c[i].Fd())
}

// output returns a name that opens what a process writes to, if that is a file. A
// terminal is the user's again, and the reader of a pipe may well end with the
// process: its end would be the end of whoever writes to it.
func output(dir string, fd int) string {
	name := filepath.Join(dir, "fd", strconv.Itoa(fd))
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return os.DevNull
	}
	return name
}

func openOutput(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil { // it went with the process, or only that may open it
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	return f, nil
}

// list reads words that each end in a zero byte.
func list(name string) ([]string, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(text, []byte{0})
	if len(text) == 0 {
		return nil, nil
	}
	return strings.Split(string(text), "\x00"), nil
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxText))
}

// A Child is a process that Start has started.
type Child struct {
	pid   int
	ended bool
	how   syscall.WaitStatus
}

// PID returns the process's number.
func (c *Child) PID() int { return c.pid }

// Ended returns nil while the process runs, and then an error that says how it
// ended. It doesn't wait.
func (c *Child) Ended() error {
	if !c.ended {
		pid, err := syscall.Wait4(c.pid, &c.how, syscall.WNOHANG, nil)
		if err != nil || pid != c.pid {
			return nil
		}
		c.ended = true
	}
	if c.how.Signaled() {
		return fmt.Errorf("it was ended by signal %s", c.how.Signal())
	}
	return fmt.Errorf("it ended with exit code %d", c.how.ExitStatus())
}

// Kill ends the process, if it runs, and returns once it is gone.
func (c *Child) Kill() error {
	if c.Ended() != nil {
		return nil
	}
	if err := syscall.Kill(c.pid, syscall.SIGKILL); err != nil {
		return err
	}
	for {
		_, err := syscall.Wait4(c.pid, &c.how, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			c.ended = true
			return err
		}
	}
}
