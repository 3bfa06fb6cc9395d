// Package preflight looks whether a machine has what a KITT agent needs.
//
// A [Check] looks at one thing. [Run] runs any number of them at once, each with
// a time limit of its own, and hands over each [Result] as it comes; [WriteJSON]
// and [WriteJSON] show them all, and [ExitStatus] says how a program should end.
// Programs that embed the agent add checks of their own, as a [Func] or as a
// type.
//
// Here are the checks that need no Docker client: [Python], [Driver], [NFS],
// [DiskSpace], [Server] (with the clock), [Port] and [ConfigFile]. Those that ask
// the Docker engine are in package preflight/dockercheck, so that only who
// imports it links one.
package preflight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Check looks at one prerequisite.
type Check interface {
	// Name is how the check is called in a table: a few words.
	Name() string

	// Required says whether the agent is of no use where the check fails.
	Required() bool

	// Run looks, and returns soon after ctx is done. Of the Result it sets
	// Status, Details and Fix.
	Run(ctx context.Context) Result
}

// A Limited check wants a time limit other than [DefaultLimit].
type Limited interface {
	Check

	// Limit returns the time that Run may take.
	Limit() time.Duration
}

// DefaultLimit is the time that a check gets unless it is [Limited].
const DefaultLimit = 10 * time.Second

// A Status is the outcome of a check.
type Status string

// The outcomes of a check.
const (
	OK   Status = "ok"
	Warn Status = "warn" // something to mend, that keeps nothing from running
	Fail Status = "fail" // what was looked for is not there
	Skip Status = "skip" // it does not apply here, or could not be looked at
)

// A Result is what a check found out.
type Result struct {
	Name     string        `json:"name"`
	Required bool          `json:"required"`
	Status   Status        `json:"status"`
	Details  string        `json:"details"`       // one sentence
	Fix      string        `json:"fix,omitempty"` // the command, or what else to do, that mends it
	Took     time.Duration `json:"took_ns"`
}

// A Func is a Check made of a function.
type Func struct {
	Label string        // its name
	Must  bool          // whether it is required
	Time  time.Duration // its limit; 0 means DefaultLimit
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

// Run runs all checks at once and returns their results in the order of checks.
// If done is not nil it is called with each result as it comes, one at a time. A
// check that overruns its limit by more than half a second counts as failed and
// is left behind.
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

// overrun is the time that a check gets to notice that its limit is over and to
// put into words what it was waiting for.
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

// safely runs c. A check of an embedder that panics has failed, and does not take
// the agent with it.
func safely(ctx context.Context, c Check) (r Result) {
	defer func() {
		if p := recover(); p != nil {
			r = Result{Status: Fail, Details: fmt.Sprintf("the check itself broke: %v", p)}
		}
	}()
	r = c.Run(ctx)
	if r.Status == "" { // must not pass for a required check that is in order
		return Result{Status: Fail, Details: "the check gave no status"}
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
