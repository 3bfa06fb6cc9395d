package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// killLimit is how long a killed process gets to be gone.
const killLimit = 10 * time.Second

// killTime is how long a supervisor gets to see the end of what it runs, while that is
// killed process by process. A control group can be killed at once.
func (f *follower) killTime() time.Duration {
	if f.group != "" {
		return 2 * time.Second
	}
	return killLimit
}

// pause is the time between two looks at a run that is being stopped.
const pause = 5 * time.Millisecond

// stop ends the run: SIGTERM to the benchmark's group, the grace, SIGKILL to all
// that comes from it. It returns once all of it is gone, and passes its last
// output on meanwhile.
func (f *follower) stop() error {
	ctx := context.Background()
	c := f.claim()
	for end := time.Now().Add(f.job.Grace()); c == nil || c.Child.PID == 0; c = f.claim() {
		// It is being started, which takes moments.
		if err := f.output.Pump(ctx, time.Now().Add(pause)); !errors.Is(err, supervisor.ErrLate) {
			return cmp.Or(f.traces().kill(killLimit), err)
		}
		if time.Now().After(end) {
			break
		}
	}
	if c == nil {
		// The supervisor is held up, by the disk for one. It looks for the spec
		// again before it starts anything.
		if err := os.Remove(filepath.Join(f.keeper.dir, specFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w once it starts: call it off: %w", runner.ErrStillRunning, err)
		}
		if c = f.claim(); c == nil {
			return f.traces().kill(killLimit)
		}
	}
	// Without a supervisor what has left the group is found as long as its parent
	// lives, so it is looked for before anything ends.
	ours := map[procfs.ID]procfs.Process{}
	find := func() {
		found := left(*c)
		if c.Supervisor.Alive() {
			found = procfs.Descendants(procfs.All(), c.Supervisor.PID)
		}
		for _, p := range found {
			ours[p.ID] = p
		}
	}
	living := func() []procfs.Process {
		var found []procfs.Process
		for id, p := range ours {
			if id.Alive() {
				found = append(found, p)
			}
		}
		return found
	}
	find()
	if c.Child.Alive() {
		// It may have ended just now.
		_ = unix.Kill(-c.Child.PID, unix.SIGTERM)
	}
	err := f.output.Pump(ctx, time.Now().Add(f.job.Grace()))
	for end := time.Now().Add(f.killTime()); errors.Is(err, supervisor.ErrLate) && time.Now().Before(end); {
		if gone, _ := f.keeper.gone(); gone {
			err = f.output.Drain()
			break
		}
		find()
		procfs.Signal(living(), unix.SIGKILL)
		err = f.output.Pump(ctx, time.Now().Add(pause))
	}
	// Now all that is left, and a supervisor that hangs.
	if e := f.traces().kill(killLimit); e != nil {
		return e
	}
	if errors.Is(err, supervisor.ErrLate) {
		return f.output.Drain()
	}
	return err
}
