// Package runnertest helps to test what uses a runner: [Fake] plays back a
// scripted run in memory, [BuildFakeKitt] builds a small program that stands in
// for the kitt command, and [Test] is the contract of a runner as code, for
// runners of your own.
package runnertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"github.com/kirizan/kitt-agent/runner"
)

// A Fake is a Runner that plays back a script. Its zero value runs every job
// at once, without output and with success. The fields are to be set before
// the first Run.
type Fake struct {
	Lines  []string      // what the benchmark prints, without newlines
	Delay  time.Duration // before each line, and before the end
	Result runner.Result // returned when the script has ended; empty fields are filled in
	Err    error         // likewise
	Hangs  bool          // stays, after the script, until it is stopped

	mu      sync.Mutex
	jobs    []runner.Job
	stopped map[string]bool // by job ID
}

var _ runner.Runner = (*Fake)(nil)

// Run records job and plays the script.
func (f *Fake) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if ctx.Err() != nil {
		return runner.Result{}, context.Cause(ctx)
	}
	f.record(job)
	return f.play(ctx, job, 0, out)
}

// Jobs returns the jobs that were run so far, in order.
func (f *Fake) Jobs() []runner.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]runner.Job(nil), f.jobs...)
}

func (f *Fake) record(job runner.Job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs = append(f.jobs, job)
}

func (f *Fake) wasStopped(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped[id]
}

// play plays the script, and notes that the run was stopped if that is what
// ends it.
func (f *Fake) play(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	result, err := f.script(ctx, from, out)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) && !errors.Is(cause, runner.ErrDetach) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.stopped == nil {
			f.stopped = map[string]bool{}
		}
		f.stopped[job.ID] = true
	}
	return result, err
}

func (f *Fake) script(ctx context.Context, from runner.Position, out runner.Output) (runner.Result, error) {
	result := f.Result
	if result.Runner == "" {
		result.Runner = "fake"
	}
	if result.Started.IsZero() {
		result.Started = time.Now()
	}
	var at int64
	for _, line := range f.Lines {
		if err := base.Wait(ctx, f.Delay); err != nil {
			return runner.Result{}, err
		}
		text := []byte(line + "\n")
		begin := at
		at += int64(len(text))
		if at <= int64(from) {
			continue
		}
		text = text[max(0, int64(from)-begin):]
		err := out.WriteOutput(text, time.Time{}, runner.Position(at-int64(len(text))))
		if err != nil {
			return runner.Result{}, err
		}
	}
	if err := base.Wait(ctx, f.Delay); err != nil {
		return runner.Result{}, err
	}
	if f.Hangs {
		<-ctx.Done()
		return runner.Result{}, context.Cause(ctx)
	}
	if result.Ended.IsZero() {
		result.Ended = time.Now()
	}
	return result, f.Err
}

// A FakeResumer is a Fake that can go on with a run: a job that it has run, or
// that is named in Begun, is played again from the position asked for, one that
// was stopped is lost, and any other was never started.
type FakeResumer struct {
	Fake
	Begun     []string // IDs of jobs that an earlier program began
	ResumeErr error    // answer to every Resume, if set
}

var _ runner.Resumer = (*FakeResumer)(nil)

// Resume plays the script from the position from if job was begun.
func (f *FakeResumer) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	if f.ResumeErr != nil {
		return runner.Result{}, f.ResumeErr
	}
	if f.wasStopped(job.ID) {
		return runner.Result{}, runner.ErrLost
	}
	for _, id := range f.Begun {
		if id == job.ID {
			return f.play(ctx, job, from, out)
		}
	}
	for _, begun := range f.Jobs() {
		if begun.ID == job.ID {
			return f.play(ctx, job, from, out)
		}
	}
	return runner.Result{}, runner.ErrNotStarted
}

// A Recorder is an Output that keeps all it was given. Its zero value is empty.
// It checks nothing: the tests that use it do.
type Recorder struct {
	mu       sync.Mutex
	text     []byte // the benchmark's own
	messages []byte // the runner's own
	last     runner.Position
	received func() // after each write, for tests that act at a certain point
}

var _ runner.Output = (*Recorder)(nil)

// OnOutput has fn called after each write of the benchmark's output, in the
// goroutine that wrote.
func (r *Recorder) OnOutput(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = fn
}

// WriteMessage keeps text of the runner's own, with a newline at its end.
func (r *Recorder) WriteMessage(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(append(r.messages, strings.TrimSuffix(text, "\n")...), '\n')
	return nil
}

// WriteOutput keeps output of the benchmark and the position behind it.
func (r *Recorder) WriteOutput(p []byte, _ time.Time, from runner.Position) error {
	r.mu.Lock()
	r.text = append(r.text, p...)
	from += runner.Position(len(p))
	r.last = from
	fn := r.received
	r.mu.Unlock()
	if fn != nil {
		fn()
	}
	return nil
}

// Text returns what the benchmark printed.
func (r *Recorder) Text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// Messages returns what the runner itself wrote, line by line.
func (r *Recorder) Messages() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.messages)
}

// Position returns the position that follows the last byte kept.
func (r *Recorder) Position() runner.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
