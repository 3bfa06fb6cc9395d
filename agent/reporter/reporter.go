// Package reporter defines how an agent tells a server what becomes of its jobs.
//
// A [Reporter] takes a job's status, log and result. Optional interfaces extend it:
// an [Inquirer] can be asked what the server holds, which is how the agent finds
// out about a request whose answer was lost; a [TestFinder] knows which test a
// command belongs to; a [Checker] has rules about result data; an
// [EncodedReporter] sends a large result from disk. Use [As] to look for them: it
// also finds those of a reporter that another one wraps.
//
// Package agent/kittapi has the Reporter for a KITT server, package
// agent/agenttest one in memory.
package reporter

import (
	"context"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Status is what a server calls the state of a test.
type Status string

// The statuses that an agent sets, in the words of the KITT protocol. A cancelled
// job has failed.
const (
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
)

// cancelled is a status that a server may have, though no agent sets it.
const cancelled Status = "cancelled"

// Ended reports whether a test with this status is over for the server.
func (s Status) Ended() bool { return s == Completed || s == Failed || s == cancelled }

// Stopped reports whether a test with this status ended without success, as when
// somebody stopped it on the server.
func (s Status) Stopped() bool { return s == Failed || s == cancelled }

// A Reporter tells a server what becomes of a job. The agent calls it from one
// goroutine per job. After an error that is not a [*RejectedError] it calls again,
// with growing waits; it never sends a job's next report before the current one is
// accepted or rejected.
type Reporter interface {
	// ReportStatus sets a test's status, with a reason if it is Failed.
	ReportStatus(ctx context.Context, testID string, status Status, reason string) error

	// ReportLog appends text, one line or several joined by newlines, to a
	// test's log.
	ReportLog(ctx context.Context, testID, text string) error

	// ReportResult delivers the result of a job. agentID is the server's id for
	// the agent, or the agent's name.
	ReportResult(ctx context.Context, agentID string, result Result) error
}

// A Result is a finished job's report.
type Result struct {
	CommandID   string
	Status      Status // Completed or Failed
	ContainerID string
	Error       string
	Data        map[string]any // what the benchmark measured, as Checker.CheckResult left it; nil for nothing
}

// A Checker is a Reporter that has rules about result data. CheckResult returns
// data that keeps them, and a sentence for each thing that it changed. It leaves
// its argument as it was.
type Checker interface {
	CheckResult(data map[string]any) (clean map[string]any, notes []string)
}

// As returns the first reporter in r's chain that is a T: r itself, or one that it
// wraps. A reporter that wraps another one has a method Unwrap() Reporter that
// returns it, as errors do for [errors.As]. T is an interface such as [Inquirer].
//
// A method that is found below a wrapper runs without it. A wrapper without Unwrap
// hides what the inner reporter can do: after a lost answer, lines and results may
// then arrive twice.
func As[T any](r Reporter) (T, bool) { return base.As[T](r) }
