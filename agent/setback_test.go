package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// careful is an engine that begins no run twice.
type careful struct{ *engine }

func (c careful) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	c.mu.Lock()
	begun := c.runs[job.ID] != nil
	c.mu.Unlock()
	if begun {
		return runner.Result{}, runner.ErrBegun
	}
	return c.engine.Run(ctx, job, out)
}

// TestARecordThatWasSetBackDoesNotEndTheBenchmark restores an older copy of a job's
// record while its benchmark runs: the run is resumed, and its lines arrive once.
func TestARecordThatWasSetBackDoesNotEndTheBenchmark(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"accepted", "preparing"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv, dir := &agenttest.Server{}, t.TempDir()
				run := careful{&engine{lines: 200, pace: time.Second}}
				a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
				<-time.After(time.Minute)
				stop()
				record := filepath.Join(a.Jobs()[0].Dir, "job.json")
				require.NoError(t, os.WriteFile(record, []byte(`{"version":1,"state":"`+state+`","changed_at":"2026-01-01T00:00:00Z"}`), 0o600))
				_, stop = start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
				defer stop()
				require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
				lines := benchmarkLines(srv.Lines(id))
				require.Equal(t, numbered(200), lines)
				for _, r := range run.runs {
					require.Equal(t, 1, r.begun)
				}
			})
		})
	}
}

// TestALogThatCannotBeOpenedKeepsTheResult breaks the log of a job whose benchmark has
// ended: its outcome and its result arrive.
func TestALogThatCannotBeOpenedKeepsTheResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1 << 20, pace: time.Second}
		id, dir := breakLog(t, srv, eng)
		jobs, err := agent.StoredJobs(dir)
		require.NoError(t, err)
		record := `{"version":1,"state":"finishing","changed_at":"2026-01-01T00:00:00Z","outcome":{"state":"completed","exit_code":0}}`
		require.NoError(t, os.WriteFile(filepath.Join(jobs[0].Dir, "job.json"), []byte(record), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(jobs[0].Dir, "results", runner.MetricsFile), []byte(`{"passed":true,"n":7}`), 0o600))
		_, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
		require.Len(t, srv.Results(), 1)
		require.NotEmpty(t, srv.Results()[0].Data["n"])
	})
}
