package reporter

import (
	"context"
	"time"

	"github.com/kirizan/kitt-agent/heartbeat"
)

// An Inquirer is a Reporter that can be asked what the server holds. That is how
// the agent finds out about a request whose answer was lost.
type Inquirer interface {
	// Test returns the server's record of a test.
	Test(ctx context.Context, testID string) (Test, error)

	// LogRows returns all rows of a test's log, in order. A row is what one
	// ReportLog sent.
	LogRows(ctx context.Context, testID string) ([]string, error)

	// HasResult reports whether the server holds a result with this model,
	// engine and timestamp.
	HasResult(ctx context.Context, model, engine, timestamp string) (bool, error)

	// Dispatched returns the commands that the server handed out to the named
	// agent and has heard nothing of since, oldest first.
	Dispatched(ctx context.Context, agentName string) ([]DispatchedCommand, error)
}

// A TestFinder is a Reporter that can say which test a command belongs to. The
// agent asks it about a job whose own record of that was lost.
type TestFinder interface {
	// FindTest returns the id of the test that the named agent's command with
	// this id belongs to, among those that have not ended; empty if there is
	// none.
	FindTest(ctx context.Context, agentName, commandID string) (testID string, err error)
}

// A Test is the server's record of a test.
type Test struct {
	ID, CommandID string
	Status        Status
	Error         string

	// Reopened reports that the test is running although it had ended before:
	// somebody stopped it at the moment in which the agent reported that it runs.
	Reopened bool
}

// Stopped reports whether somebody ended the test on the server without a result.
func (t Test) Stopped() bool { return t.Status.Stopped() || t.Reopened }

// A DispatchedCommand is a command that the server has marked as handed out.
type DispatchedCommand struct {
	heartbeat.Command
	CreatedAt time.Time // by this machine's clock; zero if the server's text could not be read
}
