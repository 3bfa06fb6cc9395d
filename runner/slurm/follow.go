package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A follower brings one job to its end, or stops it. Two goroutines use it: one reads
// the job's files, the other asks Slurm.
type follower struct {
	r      *Runner
	job    runner.Job
	intent intent
	out    runner.Output
	dir    *supervisor.Dir
	output *supervisor.Follower
	skew   func() time.Duration

	ids       atomic.Pointer[[]string]
	saved     Status    // in status.json; owned by watch
	submitted time.Time // by this program, zero if another one did; set before watch

	last atomic.Pointer[entry]    // what squeue said last of the job
	over atomic.Pointer[lastLook] // set while Slurm says that the job is not active

	// Owned by the goroutine that reads files:

	alive     supervisor.Alive
	beatAt    time.Time // when alive was seen to change
	exit      *supervisor.Exit
	exitAt    time.Time // when exit was seen first
	saidShort bool      // whether it was said that output is missing
	saidLost  bool      // whether it was said that Slurm has lost a job that runs
}

// A lastLook is what squeue said of a job that is not active.
type lastLook struct {
	entry entry     // the newest of the job's; empty if squeue has none
	since time.Time // when squeue was asked that said so first
	until time.Time // and last
}

// settled reports whether squeue has said for this long, and not only once, that a job
// is not there, or has said before that long that it has ended.
func (l *lastLook) settled(now time.Time, long time.Duration) bool {
	if l.entry.ID == "" {
		now = l.until
	}
	return now.Sub(l.since) >= long
}

func (r *Runner) newFollower(job runner.Job, in intent, from int64, out runner.Output) (*follower, error) {
	dir, err := supervisor.OpenDir(directory(job))
	if err != nil {
		return nil, fmt.Errorf("open the directory of the run: %w", err)
	}
	f := &follower{r: r, job: job, intent: in, out: out, dir: dir}
	f.skew = sync.OnceValue(f.clockSkew)
	f.output = supervisor.NewFollower(dir, out, from, f.gone)
	f.output.Remote(f.shift)
	return f, nil
}

func (f *follower) close() {
	_ = f.output.Close() // it was only read
	_ = f.dir.Close()
}

// say writes a message of the runner's own to the job's log. That it can't be written is
// no reason to end a job.
func (f *follower) say(format string, args ...any) {
	_ = f.out.WriteMessage(fmt.Sprintf(format, args...))
}

// maxLosses is how often a job that Slurm has lost is submitted again.
const maxLosses = 3

// follow returns when the job has ended, or was stopped, or detached from. A job that a
// killed controller has lost before it began is submitted again: its claim keeps it from
// running twice.
func (f *follower) follow(ctx context.Context) (runner.Result, error) {
	for losses := 0; ; losses++ {
		if err := f.pump(ctx); err != nil {
			if ctx.Err() == nil {
				return f.begun(), errors.Join(err, f.stop())
			}
			return f.stopped(ctx)
		}
		if losses == maxLosses || !f.forgotten(ctx) {
			return f.ended(ctx)
		}
		f.say("Slurm has lost the job before it began, as its controller does when it is killed; submitting it again")
		f.over.Store(nil)
		if err := f.submit(ctx, true); err != nil {
			return f.unsubmitted(ctx, err)
		}
	}
}

// forgotten reports whether Slurm knows nothing of a job that has not begun, and that
// this program has watched since it was submitted: it was not cancelled.
func (f *follower) forgotten(ctx context.Context) bool {
	over := f.over.Load()
	if f.exit != nil || f.claimed() || f.submitted.IsZero() || over == nil || over.entry.ID != "" {
		return false
	}
	_, known := f.r.accounting(ctx, f.intent.Name, f.intent.At)
	return !known && ctx.Err() == nil
}

// pump passes the output on until nothing of the job writes any more.
func (f *follower) pump(ctx context.Context) error {
	watchCtx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(watchCtx) })
	err := f.output.Pump(ctx, time.Time{})
	cancel()
	watching.Wait()
	return err
}

// stopped returns what follows from the end of ctx.
func (f *follower) stopped(ctx context.Context) (runner.Result, error) {
	cause := context.Cause(ctx)
	if errors.Is(cause, runner.ErrDetach) {
		return f.begun(), cause
	}
	if err := f.stop(); err != nil {
		return f.begun(), fmt.Errorf("%w; %w", cause, err)
	}
	return f.begun(), cause
}

// unsubmitted returns what follows from an error of submit.
func (f *follower) unsubmitted(ctx context.Context, err error) (runner.Result, error) {
	if ctx.Err() != nil {
		return f.stopped(ctx)
	}
	if errors.Is(err, errRefused) {
		// Nothing was begun, so that another attempt may be made.
		err = errors.Join(err, os.Remove(filepath.Join(directory(f.job), intentFile)))
	}
	return runner.Result{}, err
}

// watch asks Slurm about the job until ctx is done, and says what it waits for.
func (f *follower) watch(ctx context.Context) {
	var told teller
	for {
		look, err := f.r.queue.look(ctx, time.Now().Add(-f.r.cfg.Poll))
		if ctx.Err() != nil {
			return
		}
		if text := told.slurm(err); text != "" {
			f.say("%s", text)
		}
		if err == nil {
			e, found := f.note(look)
			f.saveStatus(e, found)
			if text := told.state(e, found); text != "" {
				f.say("%s", text)
			}
		}
		if base.Wait(ctx, f.r.cfg.Poll) != nil {
			return
		}
	}
}

// note takes what squeue says of the job, and returns the newest entry of it.
func (f *follower) note(look *snapshot) (e entry, found bool) {
	entries := look.jobs[f.intent.Name]
	for _, each := range entries {
		if !found || e.over() && !each.over() || e.over() == each.over() && each.Submitted.After(e.Submitted) {
			e, found = each, true
		}
	}
	if found && !slices.Contains(f.jobIDs(), e.ID) {
		f.setIDs(append(f.jobIDs(), e.ID))
	}
	if found {
		f.last.Store(&e)
	}
	if found && !e.over() {
		f.over.Store(nil)
		return e, found
	}
	if !found && look.at.Before(f.submitted) {
		return e, found // squeue was asked before the job was submitted
	}
	last := &lastLook{entry: e, since: look.at, until: look.at}
	if before := f.over.Load(); before != nil {
		last.since = before.since
		if !found {
			last.entry = before.entry
		}
	}
	f.over.Store(last)
	return e, found
}

// gone reports whether nothing of the job writes any more. It is called by Pump.
func (f *follower) gone() (bool, error) {
	now := time.Now()
	f.look(now)
	over := f.over.Load()
	if f.exit != nil {
		switch complete := f.output.Offset() >= max(f.alive.Output, f.exit.Output); {
		case f.alive.Done && complete:
			return true, nil
		case now.Sub(f.exitAt) < f.r.cfg.Late:
			return false, nil
		case !complete && !f.saidShort:
			f.saidShort = true
			f.say("the last %d bytes that the benchmark printed have not reached this machine within %v",
				max(f.alive.Output, f.exit.Output)-f.output.Offset(), f.r.cfg.Late)
		}
		return over != nil || f.alive.Done, nil
	}
	if over == nil {
		return false, nil
	}
	begun := f.claimed()
	switch {
	case !begun && over.entry.ID != "" && over.entry.Nodes == "" && over.entry.State == "CANCELLED":
		return true, nil // it was cancelled while it waited, so that no node has it
	case !over.settled(now, f.r.cfg.Late):
		return false, nil
	case begun && !f.beatAt.IsZero() && now.Sub(f.beatAt) < f.r.cfg.Late:
		if !f.saidLost {
			f.saidLost = true
			f.say("Slurm no longer runs the job, but its process on the node still shows that it lives; following it to its end")
		}
		return false, nil
	}
	return true, nil
}

// look reads what the node has written.
func (f *follower) look(now time.Time) {
	// A file that is just being written may not be readable, now.
	if a, found, err := f.dir.Alive(); err == nil && found && a.Beat != f.alive.Beat {
		f.alive, f.beatAt = a, now
	}
	if f.exit != nil {
		return
	}
	if end, found, err := f.dir.Exit(); err == nil && found {
		f.exit, f.exitAt = &end, now
	} else if f.alive.Exit != nil {
		f.exit, f.exitAt = f.alive.Exit, now
	}
}

// claimed reports whether the benchmark was begun, as far as that can be seen here.
func (f *follower) claimed() bool {
	begun, err := f.dir.Claimed()
	return begun || err != nil || f.alive.Beat > 0
}

// shift returns by how much the node's clock is ahead of this machine's.
func (f *follower) shift() time.Duration {
	if !f.claimed() {
		return 0
	}
	return f.skew()
}

// clockSkew compares the times in two files, of which each machine wrote one, with
// those that the file server gave these files.
func (f *follower) clockSkew() time.Duration {
	claim, found, err := f.dir.Claim()
	here, herr := os.Stat(filepath.Join(directory(f.job), intentFile))
	there, terr := os.Stat(filepath.Join(directory(f.job), claimFile))
	if err != nil || herr != nil || terr != nil || !found || claim.At.IsZero() || f.intent.At.IsZero() {
		return 0
	}
	skew := claim.At.Sub(there.ModTime()) - f.intent.At.Sub(here.ModTime())
	if skew.Abs() < leastSkew {
		return 0
	}
	return skew
}

// leastSkew is the difference of two clocks from which on it is corrected: less may be
// the time that a file took to be written.
const leastSkew = 2 * time.Second

// begun returns what is known of a job that has not ended by itself.
func (f *follower) begun() runner.Result {
	result := runner.Result{Runner: kind}
	if c, found, err := f.dir.Claim(); err == nil && found {
		result.Started = f.here(c.At)
	}
	return result
}

// here returns a time of the node's clock by this machine's, and never one in the
// future.
func (f *follower) here(at time.Time) time.Time {
	at = at.Add(-f.shift())
	if now := time.Now(); at.After(now) {
		return now
	}
	return at
}

// A teller says each thing once.
type teller struct {
	away  bool
	text  string // the last of state, without times
	start time.Time
}

// slurm returns what to say about an answer of Slurm with this error; empty for nothing.
func (t *teller) slurm(err error) string {
	if t.away == (err != nil) {
		return ""
	}
	if t.away = err != nil; t.away {
		return fmt.Sprintf("Slurm does not answer: %v; the job goes on", err)
	}
	return "Slurm answers again"
}

// startMoves is by how much an expected start moves before that is said.
const startMoves = 10 * time.Minute

// state returns what to say about the state of the job; empty for nothing.
func (t *teller) state(e entry, found bool) string {
	var text string
	switch {
	case !found:
		return ""
	case e.waiting():
		text = fmt.Sprintf("waiting in Slurm's queue as job %s: %s", e.ID, cmp.Or(base.Printable(e.Reason, 100), "not looked at yet"))
	case e.over():
		text = fmt.Sprintf("Slurm ended job %s: %s", e.ID, base.Printable(e.State, 40))
	default:
		text = fmt.Sprintf("Slurm runs job %s on %s: %s", e.ID, cmp.Or(base.Printable(e.Nodes, 100), "a node"), strings.ToLower(base.Printable(e.State, 40)))
	}
	moved := e.waiting() && !e.Start.IsZero() && e.Start.Sub(t.start).Abs() > startMoves
	if text == t.text && !moved {
		return ""
	}
	t.text = text
	if e.waiting() && !e.Start.IsZero() {
		t.start = e.Start
		text += "; expected start " + e.Start.Local().Format("2006-01-02 15:04")
	}
	return text
}
