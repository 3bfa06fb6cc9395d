package agent_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// breakingOff is a benchmark whose last line has no newline.
type breakingOff struct{}

func (breakingOff) Run(_ context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
	_, err := runner.OutputWriter(out).Write([]byte("begun\nRuntimeError: engine died"))
	if err == nil {
		err = &runner.ExitError{Code: 1}
	}
	return runner.Result{}, err
}

// TestALastLineWithoutANewlineComesFirst has a benchmark die within a line: what it
// said comes before what the agent says of that.
func TestALastLineWithoutANewlineComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: breakingOff{}, Dir: t.TempDir()})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "failed"))
		lines := srv.Lines(id)
		last := slices.Index(lines, "RuntimeError: engine died")
		require.GreaterOrEqual(t, last, 0, lines)
		require.Equal(t, []string{"Error: Exit 1", "Benchmark failed"}, lines[last+1:])
	})
}
