package agent_test

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	native "github.com/kirizan/kitt-agent/runner/engine"
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

// giver gives work and takes no reports.
type giver struct{ server *agenttest.Server }

func (g giver) Register(ctx context.Context, reg agent.Registration) (agent.Registered, error) {
	return g.server.Register(ctx, reg)
}

func (g giver) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error) {
	return g.server.Heartbeat(ctx, id, beat)
}

func TestWithoutAReporterNothingWaitsToBeDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		srv.Launch("m")
		run := &play{run: prints(3, 0)}
		for range 2 { // and so it is after a restart
			a, stop := start(t, agent.Config{Server: giver{srv}, Runner: run, Dir: dir})
			time.Sleep(time.Minute)
			require.Equal(t, agent.StateCompleted, a.Jobs()[0].State)
			require.Zero(t, a.Status().Undelivered)
			require.FileExists(t, filepath.Join(a.Jobs()[0].Dir, "log.zst"))
			require.FileExists(t, filepath.Join(a.Jobs()[0].Dir, "result.json"))
			stop()
		}
		require.Len(t, run.ran(), 1)
	})
}

func TestEnginesOfAMachineThatIsMadeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		made := []heartbeat.Engine{{Engine: "ollama", Installed: true, BinaryPath: "/usr/bin/ollama", Version: "0.6", Port: 11434}}
		_, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: hangs},
			Engines: detecting(func() []native.Status {
				return []native.Status{{Name: "ollama", Installed: true, Path: "/usr/bin/ollama", Version: "0.6", Port: 11434}}
			}),
		})
		synctest.Wait()
		stop()
		require.NotEmpty(t, srv.Beats())
		for _, beat := range srv.Beats() {
			require.Equal(t, made, beat.Engines)
		}
	})
}
