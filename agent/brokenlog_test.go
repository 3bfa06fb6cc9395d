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

// breakLog has an agent begin a job, stop, and find what is no file in the place
// of the job's log when it is back.
func breakLog(t *testing.T, srv *agenttest.Server, eng *engine) (id, dir string) {
	t.Helper()
	dir = t.TempDir()
	a, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
	id = srv.Launch("m")
	require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
	<-time.After(10 * time.Second)
	stop()
	log := filepath.Join(a.Jobs()[0].Dir, "log")
	require.NoError(t, os.Remove(log))
	require.NoError(t, os.Mkdir(log, 0o700))
	return id, dir
}

// TestAJobWhoseLogCannotBeOpenedEnds breaks the log of a running job while no
// agent is there: the job fails, and its benchmark is ended.
func TestAJobWhoseLogCannotBeOpenedEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1 << 20, pace: time.Second}
		id, dir := breakLog(t, srv, eng)
		a, stop := start(t, agent.Config{Server: srv, Runner: eng, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "failed"))
		_, reason := srv.Status(id)
		require.Contains(t, reason, "open the job's log")
		require.Empty(t, a.Status().Jobs)
		for _, r := range eng.runs {
			require.True(t, r.stopped)
		}
		next := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), next, "running"))
	})
}

// deaf is an engine that panics when it is asked to go on with a run.
type deaf struct{ *engine }

func (deaf) Resume(context.Context, runner.Job, runner.Position, runner.Output) (runner.Result, error) {
	panic("oops")
}

func TestAPanicWhileAJobIsGivenUpEndsThatJobAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		eng := &engine{lines: 1 << 20, pace: time.Second}
		id, dir := breakLog(t, srv, eng)
		_, stop := start(t, agent.Config{Server: srv, Runner: deaf{eng}, Dir: dir})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "failed"))
	})
}
