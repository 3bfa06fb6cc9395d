package slurm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

const (
	// stopPause is the time between two steps of a stop.
	stopPause = 500 * time.Millisecond

	// killAfter is what the wrapper gets beyond the grace, to kill the benchmark and to
	// write how it ended, before Slurm is asked to kill it.
	killAfter = 3 * time.Second

	// stopLimit is how long a stop may take beyond the grace and Config.Late.
	stopLimit = 30 * time.Second
)

// stop ends the job: by a file that the wrapper watches, by SIGTERM through Slurm, and
// after the grace by scancel. It returns nil once the job is known to have ended, and
// otherwise an error that matches [runner.ErrStillRunning].
func (f *follower) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), f.job.Grace()+f.r.cfg.Late+stopLimit)
	defer cancel()
	_, err := base.Persist(ctx, nil, func() (struct{}, error) { return struct{}{}, supervisor.Cancel(directory(f.job)) })
	if err != nil {
		f.say("the node can't be told by a file that the job is cancelled: %v", err)
	}
	var (
		signalled = map[string]bool{}
		last      error     // why Slurm didn't do what it was asked
		killed    bool      // whether scancel was called for a job that runs
		missing   time.Time // since when Slurm answers and has no such job
	)
	for kill := time.Now().Add(f.job.Grace() + killAfter); ; {
		err := f.output.Pump(ctx, time.Now().Add(stopPause))
		switch {
		case err == nil && f.exit != nil || err == nil && !f.claimed():
			return f.outputRest()
		case err == nil:
			return nil // what Slurm ended without a trace
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("%w: job %s of Slurm", runner.ErrStillRunning, f.intent.Name), last)
		case !errors.Is(err, supervisor.ErrLate):
			last = err
		}
		look, err := f.r.queue.look(ctx, time.Now())
		if err != nil {
			last = err
			continue
		}
		last = nil
		f.note(look)
		entries := look.jobs[f.intent.Name]
		if len(entries) > 0 || f.claimed() {
			missing = time.Time{}
		} else if missing.IsZero() {
			missing = look.at
		} else if look.at.Sub(missing) > f.settle() {
			return nil // it was never submitted, or never began; the file keeps it from beginning
		}
		for _, e := range entries {
			if e.over() {
				continue
			}
			var err error
			switch {
			case e.waiting():
				err = f.r.slurm.cancel(ctx, e.ID, f.intent.Name)
			case time.Now().After(kill):
				if !killed {
					f.say("the benchmark has not ended in its grace of %v; Slurm kills it", f.job.Grace())
				}
				killed = true
				err = f.r.slurm.cancel(ctx, e.ID, f.intent.Name)
			case !signalled[e.ID] && e.State == "RUNNING":
				err = f.r.slurm.cancel(ctx, e.ID, f.intent.Name, "--full", "--signal=TERM")
				signalled[e.ID] = err == nil
			}
			last = errors.Join(last, err)
		}
	}
}

// settle is how long Slurm must have answered, without knowing the job, before it counts
// as never submitted: no time at all for one that Slurm has known.
func (f *follower) settle() time.Duration {
	if len(f.jobIDs()) > 0 {
		return f.r.cfg.Late
	}
	return f.r.cfg.Settle
}

// outputRest passes on what a job that was stopped has printed at last.
func (f *follower) outputRest() error {
	if err := f.output.Drain(); err != nil {
		f.say("the end of the output is missing: %v", err)
	}
	return nil
}
