package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// An engine whose containerd died takes a container that has ended for a running one,
// for ever, and one that is away says nothing. What the kernel says needs neither: the
// supervisor is the first process of its container, so all others end with it, and it
// locks a file of the run for as long as it lives.

// deadLook is how long the kernel and the engine may contradict each other.
const deadLook = 10 * time.Second

// hasEnded reports whether it is certain that nothing of the run's container lives. It
// is false too where that can't be told: the run has no supervisor, which may also
// start later, or one on another kernel, such as that of a virtual machine.
func (f *follower) hasEnded() bool {
	dir, err := supervisor.OpenDir(runDir(f.job))
	if err != nil {
		return false
	}
	defer dir.Close()
	c, found, err := dir.Claim()
	if err != nil || !found || c.Boot != base.BootID() || c.Supervisor.PID != 1 {
		return false
	}
	free, err := dir.Free()
	// The benchmark may have replaced the file.
	return err == nil && free && len(f.supervisors()) == 0
}

// supervisors returns the processes of this machine that run in front of the run's
// benchmark: one, or none that this program can see.
func (f *follower) supervisors() []procfs.Process {
	dir := []string{"-dir", runDir(f.job)}
	return slices.DeleteFunc(procfs.All(), func(p procfs.Process) bool {
		args := p.Args()
		i := slices.Index(args, dir[0])
		return len(args) == 0 || args[0] != programTarget || i < 0 || !slices.Equal(args[i:min(i+2, len(args))], dir)
	})
}

// errCantKill says that the run's processes could not be ended without the engine.
var errCantKill = errors.New("this program can't end its processes either")

// endWithoutEngine ends the run's processes by signals to its supervisor, which passes
// them on. It returns nil once nothing of the container lives.
func (f *follower) endWithoutEngine(ctx context.Context) error {
	if f.hasEnded() || f.rec.Container == "" && f.rec.Version != 0 && !claimed(f.job) {
		return nil // or it was never asked to start
	}
	for _, step := range []struct {
		sig   unix.Signal
		limit time.Duration
	}{{unix.SIGTERM, f.job.Grace()}, {unix.SIGKILL, killLimit}} {
		found := f.supervisors()
		if len(found) == 0 {
			break
		}
		procfs.Signal(found, step.sig)
		for end := time.Now().Add(step.limit); time.Now().Before(end) && !f.hasEnded(); {
			if err := base.Wait(ctx, appearPause); err != nil {
				return err
			}
		}
	}
	if f.hasEnded() {
		f.say("the benchmark was ended without the Docker engine, which fails to do it")
		return nil
	}
	return errCantKill
}

// killLimit is how long killed processes get to be gone.
const killLimit = 10 * time.Second

// stuck returns the error for a container that the engine calls running though nothing
// of it lives.
func stuck() error {
	return lost("its processes have ended and nothing says how; the Docker engine still calls its container running, " +
		"as it does when containerd has died")
}

// pingLimit is what an engine gets to answer before a run is ended without it.
const pingLimit = 3 * time.Second

// answers reports whether the engine answers soon.
func (r *Runner) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	_, err := r.architecture(ctx)
	return err == nil
}

// requireEnded returns an error if something of a container lives that the engine says
// it has removed.
func (f *follower) requireEnded() error {
	if living := f.supervisors(); len(living) > 0 {
		return fmt.Errorf("%w: the Docker engine has removed its container, and process %d of it lives", runner.ErrStillRunning, living[0].PID)
	}
	return nil
}
