package agent_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// Jobs lists more than the few that Status does, the oldest first, and still
// does so when the agent has stopped.
func TestJobsListsAllJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var ids []string
		for range 12 {
			ids = append(ids, srv.Launch("m"))
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(3, 0)}})
		for _, id := range ids {
			require.NoError(t, srv.Wait(t.Context(), id, "completed"))
		}
		stop()
		var listed []string
		for _, j := range a.Jobs() {
			listed = append(listed, j.TestID)
			require.Equal(t, agent.StateCompleted, j.State)
			require.NotEmpty(t, j.Dir)
		}
		require.Equal(t, ids, listed)
	})
}

func TestEnginesOfAMachineThatIsMadeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		made := []heartbeat.Engine{{Engine: "ollama", Installed: true, Port: 11434}}
		_, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: hangs},
			Engines: func() []heartbeat.Engine { return made },
		})
		synctest.Wait()
		stop()
		require.NotEmpty(t, srv.Beats())
		for _, beat := range srv.Beats() {
			require.Equal(t, made, beat.Engines)
		}
	})
}
