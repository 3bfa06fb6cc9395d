package socketproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
)

// CheckWord is what the program prints when it is called with -check.
const CheckWord = "kitt-socket-proxy 1"

const (
	startLimit = 30 * time.Second          // for the program to serve
	lookPause  = 10 * time.Millisecond     // between two looks at a proxy that ends
	killAfter  = createLimit + time.Second // for one to end in good order
)

// Start has a process serve the socket of a job, in dir, by a policy. The command is that
// of package kitt-socket-proxy's program; the process outlives this one. A proxy that
// runs already, or one of before that has ended, goes on with the policy of its start.
//
// The parent of dir must exist, and keep others out.
func Start(ctx context.Context, command []string, dir string, policy Policy) error {
	policy.Version = policyVersion
	if err := policy.check(); err != nil {
		return fmt.Errorf("start the socket proxy: %w", err)
	}
	if err := prepare(dir, policy); err != nil {
		return fmt.Errorf("start the socket proxy: %w", err)
	}
	return launch(ctx, command, dir)
}

// Restart has a process serve again, by the policy of the job's first start. It does
// nothing if one still does. The error matches [os.ErrNotExist] if dir has no policy.
func Restart(ctx context.Context, command []string, dir string) error {
	if _, err := readPolicy(filepath.Join(dir, policyFile)); err != nil {
		return fmt.Errorf("start the socket proxy again: %w", err)
	}
	return launch(ctx, command, dir)
}

// Serving reports whether a process serves the socket in dir, or is about to.
func Serving(dir string) (bool, error) {
	held, err := lock(dir)
	if held == nil {
		return err == nil, err
	}
	return false, held.Close()
}

// prepare makes the directory and the policy, unless there is one.
func prepare(dir string, policy Policy) error {
	// A container's user may be any, and needs the directory with the socket alone.
	for path, mode := range map[string]os.FileMode{dir: 0o700, SocketDir(dir): 0o755} {
		if err := os.MkdirAll(path, mode); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask is
			return err
		}
	}
	path := filepath.Join(dir, policyFile)
	if old, err := readPolicy(path); err == nil && old.Job == policy.Job {
		return nil
	}
	return base.WriteJSON(path, policy, maxPolicy)
}

// launch runs the program, which returns once its own child serves.
func launch(ctx context.Context, command []string, dir string) error {
	if len(command) == 0 {
		return errors.New("start the socket proxy: there is no program")
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), "-dir", dir)...)
	cmd.Env = []string{"GOTRACEBACK=single"} // no secret of the agent's
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("start the socket proxy: %w: %s", err, base.Printable(base.OneLine(string(out)), 500))
	}
	return nil
}

// End ends the process that serves the socket in dir, if any does, also one that
// another program started. It completes creations that the engine has begun. When ctx
// is done it is killed, and End waits for that.
func End(ctx context.Context, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	deadline := time.Now().Add(killAfter)
	signal, asked := unix.SIGTERM, false
	for {
		held, err := lock(dir)
		if err != nil {
			return fmt.Errorf("end the socket proxy: %w", err)
		}
		if held != nil {
			return errors.Join(removeSocket(dir), held.Close())
		}
		if signal == unix.SIGTERM && (ctx.Err() != nil || time.Now().After(deadline)) {
			signal, asked, deadline = unix.SIGKILL, false, time.Now().Add(killAfter)
		}
		if time.Now().After(deadline) {
			return errors.New("end the socket proxy: it holds its lock and can't be killed")
		}
		id, alive, err := readState(dir)
		if err != nil {
			return fmt.Errorf("end the socket proxy: %w", err)
		}
		if alive && !asked {
			procfs.Signal([]procfs.Process{{ID: id}}, signal)
			asked = true
		}
		time.Sleep(lookPause)
	}
}

// removeSocket removes the socket, so that who still looks for it finds nothing.
func removeSocket(dir string) error {
	err := os.Remove(filepath.Join(SocketDir(dir), socketFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
