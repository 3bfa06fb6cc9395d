package reporter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// wrapped is a reporter around another one, as a program writes it to count reports.
type wrapped struct{ reporter.Reporter }

func (w wrapped) Unwrap() reporter.Reporter { return w.Reporter }

// hidden is one that forgot Unwrap.
type hidden struct{ reporter.Reporter }

func TestAs(t *testing.T) {
	t.Parallel()
	inner := &agenttest.Server{}
	for name, r := range map[string]reporter.Reporter{"itself": inner, "once": wrapped{inner}, "twice": &wrapped{wrapped{inner}}} {
		found, ok := reporter.As[reporter.Inquirer](r)
		require.True(t, ok, name)
		require.Same(t, inner, found, name)
		_, ok = reporter.As[reporter.EncodedReporter](r)
		require.False(t, ok, name)
	}
	for name, r := range map[string]reporter.Reporter{"none": nil, "hidden": hidden{inner}, "hidden below": wrapped{hidden{inner}}, "wraps nothing": wrapped{}} {
		_, ok := reporter.As[reporter.Inquirer](r)
		require.False(t, ok, name)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[reporter.Status][2]bool{
		reporter.Running: {false, false}, reporter.Completed: {true, false}, reporter.Failed: {true, true}, "cancelled": {true, true}, "queued": {false, false}, "": {false, false},
	} {
		require.Equal(t, want, [2]bool{status.Ended(), status.Stopped()}, status)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	bare := reporter.EncodedResult{CommandID: "c", Status: reporter.Failed, Error: "e"}
	got, err := bare.Decode()
	require.NoError(t, err)
	require.Equal(t, reporter.Result{CommandID: "c", Status: reporter.Failed, Error: "e"}, got)

	text := `{"model":"m","n":1}`
	bare.Data, bare.Size = strings.NewReader(text), int64(len(text))
	for range 2 {
		got, err = bare.Decode()
		require.NoError(t, err)
		require.Equal(t, map[string]any{"model": "m", "n": 1.0}, got.Data)
	}
	bare.Size--
	_, err = bare.Decode()
	require.Error(t, err)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	require.EqualError(t, &reporter.RetryAfterError{After: time.Minute}, "the server asks to come back in 1m0s")
	err := fmt.Errorf("post: %w", &reporter.RetryAfterError{After: time.Minute, Err: errors.ErrUnsupported})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.True(t, (&reporter.RejectedError{Code: 403}).Rejected())
}

// counter counts the results that go through it.
type counter struct {
	reporter.Reporter
	results int
}

func (c *counter) ReportResult(ctx context.Context, agentID string, r reporter.Result) error {
	c.results++
	return c.Reporter.ReportResult(ctx, agentID, r)
}

// Unwrap lets the agent find what the inner reporter can do.
func (c *counter) Unwrap() reporter.Reporter { return c.Reporter }

// A reporter that wraps another one keeps the promises of the inner one.
func ExampleAs() {
	r := &counter{Reporter: &agenttest.Server{}}
	_, asks := reporter.As[reporter.Inquirer](r)
	fmt.Println("can be asked what the server holds:", asks)
	// Output: can be asked what the server holds: true
}
