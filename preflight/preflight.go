// Package preflight checks whether a machine has what a KITT agent needs.
//
// A [Check] checks one prerequisite. [Run] runs checks concurrently, each with its
// own time limit, and passes on each [Result] when it is known. [WriteJSON] prints
// the results and [ExitStatus] returns the exit status for a program. Programs
// that embed the agent can add their own checks, as a [Func] or as a type.
//
// This package has the checks that need no Docker client: [Python], [Driver],
// [NFS], [DiskSpace], [Server] (with the clock), [Port] and [ConfigFile]. Those of
// the Docker engine are in package preflight/dockercheck, so that only programs
// that import it link a Docker client.
package preflight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Check checks one prerequisite. Its methods are safe for concurrent use.
type Check interface {
	// Name returns the check's name for tables and JSON: a few words.
	Name() string

	// Required reports whether the agent cannot work if the check fails.
	Required() bool

	// Run runs the check, and returns soon after ctx is done. It sets Status,
	// Details and Fix of the Result.
	Run(ctx context.Context) Result
}

// A Limited check has a time limit other than [DefaultLimit].
type Limited interface {
	Check

	// Limit returns the time that Run may take.
	Limit() time.Duration
}

// DefaultLimit is the time limit of a check that is not [Limited].
const DefaultLimit = 10 * time.Second

// A Status is the outcome of a check.
type Status string

// The outcomes of a check.
const (
	OK   Status = "ok"
	Warn Status = "warn" // something to fix; the agent works without it
	Fail Status = "fail" // the prerequisite is missing
	Skip Status = "skip" // the check does not apply, or could not run
)

// A Result is the result of a check.
type Result struct {
	Name     string        `json:"name"`
	Required bool          `json:"required"`
	Status   Status        `json:"status"`
	Details  string        `json:"details"`       // one sentence
	Fix      string        `json:"fix,omitempty"` // the command or action that fixes it
	Took     time.Duration `json:"took_ns"`       // how long the check ran
}

// A Func is a Check that calls a function.
type Func struct {
	Label string        // the check's name
	Must  bool          // whether it is required
	Time  time.Duration // its time limit; 0 means DefaultLimit
	Do    func(ctx context.Context) Result
}

var _ Limited = Func{}

// Name returns f.Label.
func (f Func) Name() string { return f.Label }

// Required returns f.Must.
func (f Func) Required() bool { return f.Must }

// Limit returns f.Time or DefaultLimit.
func (f Func) Limit() time.Duration {
	if f.Time > 0 {
		return f.Time
	}
	return DefaultLimit
}

// Run calls f.Do.
func (f Func) Run(ctx context.Context) Result { return f.Do(ctx) }

// Run runs all checks concurrently and returns their results in the order of
// checks. If done is not nil, Run calls it with each result when it is known, one
// at a time. A check that exceeds its limit by more than half a second has failed,
// and Run does not wait for it.
func Run(ctx context.Context, checks []Check, done func(Result)) []Result {
	results := make([]Result, len(checks))
	var (
		all sync.WaitGroup
		mu  sync.Mutex // held during done
	)
	for i, c := range checks {
		all.Go(func() {
			r := runOne(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			results[i] = r
			if done != nil {
				done(r)
			}
		})
	}
	all.Wait()
	return results
}

// overrun is the extra time that a check has to return after its limit, with a
// description of what it was waiting for.
const overrun = 500 * time.Millisecond

func runOne(ctx context.Context, c Check) Result {
	limit := DefaultLimit
	if l, ok := c.(Limited); ok {
		limit = l.Limit()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	start := time.Now()
	answer := make(chan Result, 1)
	go func() {
		defer cancel()
		answer <- safely(ctx, c)
	}()

	var r Result
	select {
	case r = <-answer:
	case <-ctx.Done():
		timer := time.NewTimer(overrun)
		defer timer.Stop()
		select {
		case r = <-answer:
		case <-timer.C:
			r = Result{Status: Fail, Details: fmt.Sprintf("no answer within %s", limit)}
		}
	}
	r.Name, r.Required, r.Took = c.Name(), c.Required(), time.Since(start)
	return r
}

// safely runs c. A check that panics has failed, and the program continues.
func safely(ctx context.Context, c Check) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Status: Fail, Details: fmt.Sprintf("the check panicked: %v", p)}
		}
	}()
	r = c.Run(ctx)
	if r.Status == "" { // a required check must not pass by mistake
		return Result{Status: Fail, Details: "the check returned no status"}
	}
	return r
}

// Failed returns the required checks that failed.
func Failed(results []Result) []Result {
	var failed []Result
	for _, r := range results {
		if r.Required && r.Status == Fail {
			failed = append(failed, r)
		}
	}
	return failed
}

// ExitStatus returns 1 if a required check failed, else 0.
func ExitStatus(results []Result) int {
	if len(Failed(results)) > 0 {
		return 1
	}
	return 0
}
