package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// A Server is where the agent registers and gets its work from. Package
// agent/kittapi has the one that speaks to a KITT server.
//
// Unless an error says otherwise it is taken for an outage: the agent tries
// again. It matches [heartbeat.ErrUnknownAgent] or is a [*RefusedError] only if
// the server itself said so.
type Server interface {
	// Register makes the agent known and returns the id that the server gave it.
	Register(ctx context.Context, reg Registration) (Registered, error)

	// Heartbeat reports beat for the agent with the given id or name.
	Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error)
}

// A Registration introduces an agent to its server.
type Registration struct {
	Name         string
	Port         int // where the agent's own API listens
	Version      string
	Capabilities []string // engines with a local image
	Machine      *hwdetect.Machine
}

// Registered is the answer to a Registration.
type Registered struct {
	AgentID  string
	Interval time.Duration // between heartbeats; 0 if the server named none
}

// A Reporter tells a server what becomes of a job. The agent calls it from one
// goroutine per job, and calls again after an error that is not a
// [*RefusedError], with growing waits; it never calls for the next report of a
// job before the one in hand is settled.
type Reporter interface {
	// ReportStatus sets a test's status: running, completed or failed, the
	// last with a reason.
	ReportStatus(ctx context.Context, testID, status, reason string) error

	// ReportLog appends text, one line or several joined by newlines, to a
	// test's log.
	ReportLog(ctx context.Context, testID, text string) error

	// ReportResult delivers the result of a job.
	ReportResult(ctx context.Context, agentID string, result Result) error
}

// A Result is a finished job's report.
type Result struct {
	CommandID   string
	Status      string // completed or failed
	ContainerID string
	Error       string
	Data        map[string]any // what the benchmark measured, as Checker.CheckResult left it; nil for nothing
}

// A Checker is a Reporter that has rules about result data. CheckResult returns
// the data mended so that it keeps them, and a sentence for each thing that it
// changed. It leaves data as it was.
type Checker interface {
	CheckResult(data map[string]any) (clean map[string]any, notes []string)
}

// An Inquirer is a Reporter that can be asked what the server holds, which
// settles what became of a request whose answer was lost.
type Inquirer interface {
	// Test returns the server's record of a test.
	Test(ctx context.Context, testID string) (Test, error)

	// LogRows returns all rows of a test's log, in order. A row is what one
	// ReportLog sent.
	LogRows(ctx context.Context, testID string) ([]string, error)

	// HasResult says whether the server holds a result with this model, engine
	// and timestamp.
	HasResult(ctx context.Context, model, engine, timestamp string) (bool, error)

	// Dispatched returns the commands that the server handed out to the named
	// agent and heard nothing of since, oldest first.
	Dispatched(ctx context.Context, agentName string) ([]DispatchedCommand, error)
}

// A Test is the server's record of a test.
type Test struct {
	ID, CommandID, Status, Error string
}

// A DispatchedCommand is a command that the server has marked as handed out.
type DispatchedCommand struct {
	heartbeat.Command
	CreatedAt time.Time // zero where the server's text could not be read
}

// A RefusedError is the server's own final word on a request: sending the same
// again will not help.
type RefusedError struct {
	Status  int    // HTTP status: 400, 401, 403, 404
	Message string // the server's text
}

// Error returns the server's text.
func (e *RefusedError) Error() string { return e.Message }

// Refused reports that it is the server's final word.
func (e *RefusedError) Refused() bool { return true }

// ErrBroken is matched by the error of a request that the server failed at
// (HTTP 500). The same report sent again and again may be what breaks it.
var ErrBroken = errors.New("the server failed at this request")

// A RetryAfterError is an outage for which the server named a time.
type RetryAfterError struct {
	After time.Duration // until the next try, of which the agent waits 10 minutes at most
	Err   error         // what lies beneath; may be nil
}

// Error returns the text of what lies beneath, or that the server wants to be
// asked later.
func (e *RetryAfterError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("the server asks to come back in %s", e.After)
	}
	return e.Err.Error()
}

// Unwrap returns what lies beneath.
func (e *RetryAfterError) Unwrap() error { return e.Err }
