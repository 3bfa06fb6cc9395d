package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Fallback is a Runner that tries several in order: the first that has
// something to run the job with runs it.
//
// A member that is only not ready, see [ErrNotReady], keeps the job: the next one is
// not tried.
//
// It is a [Resumer], a [Cleaner], a [Sweeper], a [StartChecker], a [JobChecker], an
// [Owner] and a [ContainerRunner] on behalf of those of its members that are. A member
// that is no Resumer is never asked to run the same job again: its run counts as lost
// once the program has ended.
type Fallback struct {
	members []Runner
	former  []Runner
}

var (
	_ Resumer = (*Fallback)(nil)
	_ Cleaner = (*Fallback)(nil)
	_ Sweeper = (*Fallback)(nil)
	_ Checker = (*Fallback)(nil)

	_ StartChecker = (*Fallback)(nil)
	_ JobChecker   = (*Fallback)(nil)
)

// NewFallback returns a Fallback that tries runners in the order given. The
// members of a Fallback among them take its place.
func NewFallback(runners ...Runner) *Fallback {
	f := &Fallback{}
	for _, r := range runners {
		if inner, ok := r.(*Fallback); ok {
			f.members = append(f.members, inner.members...)
			continue
		}
		f.members = append(f.members, r)
	}
	return f
}

// Former has f go on with what these runners began, which get no new jobs, as
// after a change of the configuration. It returns f, and is to be called before
// anything else is.
func (f *Fallback) Former(runners ...Runner) *Fallback {
	f.former = append(f.former, runners...)
	return f
}

// fallbackFile is kept in the job's directory. It is written before a member
// gets the job and removed if the member could not run it.
const fallbackFile = "fallback.json"

// maxFallbackFile bounds what is read back of it, in bytes.
const maxFallbackFile = 64 << 10

// An intent says which member a job was given to.
type intent struct {
	Version   int       `json:"version"`
	Member    int       `json:"member"` // place in the order, from 0
	Runner    string    `json:"runner"` // its Go type
	Resumable bool      `json:"resumable"`
	At        time.Time `json:"at"`
}

// Run gives job to each runner in turn until one can run it. Why one could not
// is said on out. The error matches [ErrUnavailable] if none can.
func (f *Fallback) Run(ctx context.Context, job Job, out Output) (Result, error) {
	var reasons []string
	for i, r := range f.members {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		_, resumable := As[Resumer](r)
		waiting := func(err error) { _ = out.WriteMessage(fmt.Sprintf("waiting for the files of the run: %v", err)) }
		_, err := base.Persist(ctx, waiting, func() (any, error) {
			return nil, writeIntent(job.Dir, intent{
				Version: 1, Member: i, Runner: fmt.Sprintf("%T", r), Resumable: resumable, At: time.Now().UTC(),
			})
		})
		if err != nil {
			return Result{}, base.JoinCause(ctx, fmt.Errorf("note down which runner gets the job: %w", err))
		}
		result, err := runMember(ctx, r, resumable, job, out)
		notReady := errors.Is(err, ErrNotReady)
		if !notReady && !errors.Is(err, ErrUnavailable) {
			return result, err
		}
		if err := removeIntent(ctx, job.Dir); err != nil {
			return Result{}, fmt.Errorf("take back which runner gets the job: %w", err)
		}
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx) // which may be all that made it unavailable
		}
		if notReady || len(f.members) == 1 {
			return Result{}, err
		}
		reason := reasonOf(err)
		reasons = append(reasons, reason)
		if i+1 < len(f.members) {
			if err := out.WriteMessage(reason + "; trying the next way to run it"); err != nil {
				return Result{}, fmt.Errorf("write to the job's log: %w", err)
			}
		}
	}
	return Result{}, nothingFor(job, reasons)
}

// nothingFor returns the error for a job that no member can run, for these reasons.
func nothingFor(job Job, reasons []string) error {
	text := "there is nothing to run the benchmark with"
	if len(reasons) > 0 {
		text += ": " + strings.Join(reasons, "; ")
	}
	fix := "kitt-agent build"
	if job.Mode == ModeNative {
		fix = "install it, or choose engine_mode docker"
	}
	return &Error{Class: ClassUnavailable, Text: text, Fix: fix, Err: ErrUnavailable}
}

// CheckJob returns why no member can run job, and nil if one may.
func (f *Fallback) CheckJob(job Job) error {
	var reasons []string
	for _, r := range f.members {
		checker, ok := As[JobChecker](r)
		if !ok {
			return nil
		}
		err := checker.CheckJob(job)
		if !errors.Is(err, ErrUnavailable) || len(f.members) == 1 {
			return err
		}
		reasons = append(reasons, reasonOf(err))
	}
	return nothingFor(job, reasons)
}

// runMember runs job on r, which is asked to detach only if it can resume.
func runMember(ctx context.Context, r Runner, resumable bool, job Job, out Output) (Result, error) {
	if resumable {
		return r.Run(ctx, job, out)
	}
	ctx, cancel := WithoutDetach(ctx)
	defer cancel()
	return r.Run(ctx, job, out)
}

// Resume goes on with the run of the runner that began it: the one that was
// noted down is asked first, then all in order, and the first that does not
// answer [ErrNotStarted] has the run. The error matches [ErrLost] if the job was
// given to one that cannot resume, or that is not there any more.
func (f *Fallback) Resume(ctx context.Context, job Job, from Position, out Output) (Result, error) {
	given, err := base.Persist(ctx, nil, func() (intent, error) { return readIntent(job.Dir) })
	if base.Transient(err) {
		return Result{}, fmt.Errorf("%w: %w", ErrStillRunning, base.JoinCause(ctx, err))
	}
	runners := slices.Concat(f.members, f.former)
	var begun Runner
	if err == nil {
		begun = given.find(runners)
	}
	if begun != nil {
		// Only that one can have begun the job. Asked first, it needn't wait for
		// an engine that others want to ask.
		runners = append([]Runner{begun}, runners...)
	}
	for _, r := range runners {
		resumer, ok := As[Resumer](r)
		if !ok {
			continue
		}
		result, err := resumer.Resume(ctx, job, from, out)
		if !errors.Is(err, ErrNotStarted) {
			return result, err
		}
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Result{}, ErrNotStarted
	case err != nil:
		// The job was given to someone and nobody can say to whom.
		return Result{}, &Error{
			Class: ClassLost, Text: "which runner had the benchmark can't be read: " + err.Error(), Err: ErrLost,
		}
	}
	if _, still := As[Resumer](begun); still && given.Resumable {
		return Result{}, ErrNotStarted
	}
	return Result{}, &Error{
		Class: ClassLost,
		Text:  "the benchmark was running when the agent stopped and could not be followed any further",
		Err:   ErrLost,
	}
}

// Clean has every member that can clean up do so.
func (f *Fallback) Clean(ctx context.Context, job Job, since time.Time, out Output) error {
	var errs []error
	for _, r := range f.members {
		if cleaner, ok := As[Cleaner](r); ok {
			errs = append(errs, cleaner.Clean(ctx, job, since, out))
		}
	}
	return errors.Join(errs...)
}

// Sweep has every member that can sweep do so and returns all the IDs.
func (f *Fallback) Sweep(ctx context.Context, claimed func(id string) bool, grace time.Duration) ([]string, error) {
	var (
		ids  []string
		errs []error
	)
	for _, r := range f.members {
		sweeper, ok := As[Sweeper](r)
		if !ok {
			continue
		}
		ended, err := sweeper.Sweep(ctx, claimed, grace)
		ids = append(ids, ended...)
		errs = append(errs, err)
	}
	return ids, errors.Join(errs...)
}

// Check returns why no member can run a job, and nil if one may.
func (f *Fallback) Check() error {
	var errs []error
	for _, r := range f.members {
		checker, ok := As[Checker](r)
		if !ok {
			return nil
		}
		err := checker.Check()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// CheckStart asks the members in turn, up to the one that would get a job.
func (f *Fallback) CheckStart(ctx context.Context) error {
	for _, r := range f.members {
		checker, ok := As[StartChecker](r)
		if !ok {
			return nil
		}
		if err := checker.CheckStart(ctx); !errors.Is(err, ErrUnavailable) {
			return err
		}
	}
	return nil // Run says that there is nothing to run a job with
}

// reasonOf returns why a runner is unavailable, without the remedy, which is
// given once for all of them.
func reasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Text
	}
	return err.Error()
}

// find returns the runner that the job was given to, nil if it is not among
// runners. The order may have changed since; there may be several of its type.
func (i intent) find(runners []Runner) Runner {
	is := func(r Runner) bool { return i.Runner == "" || fmt.Sprintf("%T", r) == i.Runner }
	if i.Member < len(runners) && is(runners[i.Member]) {
		return runners[i.Member]
	}
	if at := slices.IndexFunc(runners, is); at >= 0 && i.Runner != "" {
		return runners[at]
	}
	return nil
}

func writeIntent(dir string, i intent) error {
	return base.WriteJSON(filepath.Join(dir, fallbackFile), i, maxFallbackFile)
}

// removeIntent removes what writeIntent wrote.
func removeIntent(ctx context.Context, dir string) error {
	_, err := base.Persist(ctx, nil, func() (any, error) {
		err := os.Remove(filepath.Join(dir, fallbackFile))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return nil, err
	})
	return err
}

func readIntent(dir string) (intent, error) {
	var i intent
	path := filepath.Join(dir, fallbackFile)
	if err := base.ReadJSON(path, &i, maxFallbackFile); err != nil {
		return intent{}, err
	}
	if i.Version != 1 || i.Member < 0 {
		return intent{}, fmt.Errorf("%s: version %d, member %d is not understood", path, i.Version, i.Member)
	}
	return i, nil
}
