package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A keeper knows whether a run still has someone who waits for it: its
// supervisor, or this process itself.
type keeper struct {
	dir   string
	pid   int               // the process that this one started and has to wait for; 0 if none
	child *supervisor.Claim // set if that is the benchmark itself
	end   *supervisor.Exit  // how that ended
	kills int64             // see supervisor.OOMKills; from before the child was started
}

// gone reports whether nobody waits for the benchmark any more: it has ended and
// so have the processes that it left behind, or the supervisor died.
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
			end := supervisor.ExitOf(status, supervisor.OOMKills() > k.kills)
			k.end = &end
			// For an agent that comes later. This one knows it, also where the
			// disk is full.
			_ = writeState(k.dir, supervisor.ExitFile, end)
			procfs.Kill(func() []procfs.Process { return left(*k.child) }, killLimit)
			return true, nil
		}
	}
	if k.child != nil {
		return true, nil
	}
	// This program's supervisor may have found that one of an earlier program
	// has the run, so its end alone says nothing.
	held, err := supervisor.Lock(k.dir)
	if err != nil || held == nil {
		return false, err
	}
	return true, held.Close()
}

// left returns what still runs of a run whose supervisor, or whose agent, is
// gone: the child, what comes from it, its group, and the supervisor's session.
func left(c supervisor.Claim) []procfs.Process {
	if c.Boot != base.BootID() {
		return nil
	}
	all := procfs.All()
	var found []procfs.Process
	if c.Child.Alive() {
		found = procfs.Descendants(all, c.Child.PID)
	}
	// The PID of a dead leader isn't given out again while its group or session
	// has members. If it was given out, theirs is another group or session.
	ours := func(id procfs.ID) bool {
		if id.PID == 0 {
			return false
		}
		p, ok := procfs.Lookup(id.PID)
		return !ok || p.Start == id.Start
	}
	group, session := ours(c.Child), ours(c.Supervisor)
	for _, p := range all {
		if p.ID == c.Child || group && p.Group == c.Child.PID || session && p.Session == c.Supervisor.PID {
			found = append(found, p)
		}
	}
	return found
}
