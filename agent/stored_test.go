package agent_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// What an agent left on disk can be read without one.
func TestStoredJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		none, err := agent.StoredJobs(dir)
		require.NoError(t, err)
		require.Empty(t, none)

		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(3, time.Second)}, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, time.Hour), id))
		running, err := agent.StoredJobs(dir)
		require.NoError(t, err, "while the agent runs")
		require.Len(t, running, 1)
		stop()

		stored, err := agent.StoredJobs(dir)
		require.NoError(t, err)
		require.Len(t, stored, 1)
		require.Equal(t, id, stored[0].TestID)
		require.Equal(t, agent.StateCompleted, stored[0].State)
		require.Equal(t, filepath.Join(dir, "jobs", stored[0].CommandID), stored[0].Dir)
		var lines []string
		require.NoError(t, stored[0].ReadLog(t.Context(), func(line string) error {
			lines = append(lines, line)
			return nil
		}))
		require.Equal(t, srv.Lines(id), lines)
		require.ErrorIs(t, stored[0].ReadLog(t.Context(), func(string) error { return os.ErrClosed }), os.ErrClosed)

		require.NoError(t, os.WriteFile(filepath.Join(stored[0].Dir, "job.json"), []byte("{"), 0o600))
		broken, err := agent.StoredJobs(dir)
		require.ErrorContains(t, err, "job.json")
		require.Equal(t, id, broken[0].TestID)
		require.Empty(t, broken[0].State)
	})
}
