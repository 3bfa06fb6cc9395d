package process

import (
	"context"
	"crypto/sha256"
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

// A run's processes are found in three ways, each of which knows some that the others
// don't: by the control group that its supervisor has joined, by a variable in the
// environment that they were started with, and by what comes from the process that
// started.json names. The first two need no file of the run.

// markName is the name of the variable. Its value is the run's directory.
const markName = "KITT_AGENT_RUN_DIR"

func markOf(dir string) string { return markName + "=" + dir }

// groupName returns the name of the run's control group.
func groupName(dir string) string { return fmt.Sprintf("kitt-run-%.16x", sha256.Sum256([]byte(dir))) }

// traces are by what the processes of a run are found.
type traces struct {
	dir   string
	group cgroup.Group      // empty if it has none
	claim *supervisor.Claim // nil if it was not claimed, or nobody knows
}

// living returns the processes of the run that live. sure is false if there may be more.
func (t traces) living() (found []procfs.Process, sure bool) {
	found, sure = procfs.WithEnv(markOf(t.dir))
	if c := t.claim; c != nil {
		found = append(found, left(*c)...)
		if c.Supervisor.Alive() {
			found = append(found, procfs.Process{ID: c.Supervisor})
			found = append(found, procfs.Descendants(procfs.All(), c.Supervisor.PID)...)
		}
	}
	pids, err := t.group.PIDs()
	for _, pid := range pids {
		if p, ok := procfs.Lookup(pid); ok && !p.Zombie {
			found = append(found, p)
		}
	}
	if t.group != "" && err == nil && len(pids) == 0 {
		sure = true // none leaves its group by forking
	}
	return found, sure
}

// killStrays kills what is left of a run whose supervisor has seen its end, and has
// ended what it left behind: what that has not found. That none is missed can't be
// shown without a control group, and is no reason to lose the outcome.
func (t traces) killStrays(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		groupErr := t.group.Kill(0)
		found, _ := t.living()
		if len(found) == 0 && groupErr == nil {
			return
		}
		procfs.Signal(found, unix.SIGKILL)
		_ = base.Wait(context.Background(), pause)
	}
}

// cleanLooks is how many looks in a row must find nothing on a machine on which
// something forks all the time. A shell script that starts itself again and ends, as
// fast as it can, was missed by one look in four.
const cleanLooks = 20

// kill kills all processes of the run. It returns nil once none lives, and otherwise, at
// the limit, an error that matches [runner.ErrStillRunning].
func (t traces) kill(limit time.Duration) error {
	clean := 0 // looks in a row that found nothing
	for end := time.Now().Add(limit); ; {
		groupErr := t.group.Kill(0)
		forks := procfs.Forks()
		found, sure := t.living()
		if clean++; len(found) > 0 || !sure || groupErr != nil {
			clean = 0
		}
		// What forks and ends again and again may miss a look, but not one during which
		// nothing forks on this machine.
		still := forks >= 0 && forks == procfs.Forks()
		if clean > 0 && (t.group != "" || still) || clean >= cleanLooks {
			return nil
		}
		if time.Now().After(end) {
			if len(found) > 0 {
				return fmt.Errorf("%w: process %d and %d others can't be killed", runner.ErrStillRunning, found[0].PID, len(found)-1)
			}
			return errors.Join(fmt.Errorf("%w: processes come and go too fast to see whether they are its own", runner.ErrStillRunning), groupErr)
		}
		procfs.Signal(found, unix.SIGKILL)
		_ = base.Wait(context.Background(), pause)
	}
}
