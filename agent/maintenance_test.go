package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// deaf is a Server and Reporter that is never called.
type deaf struct {
	Server
	reporter.Reporter
}

type noRunner struct{}

func (noRunner) Run(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return runner.Result{}, nil
}

// endedJob puts a job into a's store that ended at the given time, with size bytes of
// results. The checkpoint says what the server has accepted of it.
func endedJob(t *testing.T, a *Agent, id string, ended time.Time, size int, checkpoint string) *jobs.Job {
	t.Helper()
	j, err := a.registry.create(jobs.Command{ID: id, Type: TypeRunTest}, jobs.FromServer, nil)
	require.NoError(t, err)
	require.NoError(t, j.Transition(StateFailed, true, func(rec *jobs.Record) {
		rec.EndedAt, rec.Outcome = ended, &jobs.Outcome{State: StateFailed}
	}))
	require.NoError(t, os.WriteFile(filepath.Join(j.ResultsDir(), "raw"), make([]byte, size), 0o600))
	require.NoError(t, os.WriteFile(j.Path(jobs.DeliveryFile), []byte(checkpoint), 0o600))
	return j
}

func TestOldDeliveredJobsAreRemoved(t *testing.T) {
	t.Parallel()
	a, err := New(Config{
		Name: "x", Dir: t.TempDir(), Server: deaf{}, Reporter: deaf{}, Runner: noRunner{},
		Keep: Retention{MaxAge: 30 * 24 * time.Hour, MaxBytes: 1 << 20},
	})
	require.NoError(t, err)
	store, err := jobs.Open(filepath.Join(a.cfg.Dir, "jobs"), nil)
	require.NoError(t, err)
	a.registry.open(store)
	a.registry.setAccepting(true)
	now := time.Now()
	const all, logOnly = `{"log":true,"result":true,"terminal":true}`, `{"log":true}`
	old := endedJob(t, a, "old", now.Add(-31*24*time.Hour), 10, all)
	waiting := endedJob(t, a, "waiting", now.Add(-90*24*time.Hour), 10, logOnly)
	large := endedJob(t, a, "large", now.Add(-3*time.Hour), 700<<10, all)
	larger := endedJob(t, a, "larger", now.Add(-2*time.Hour), 700<<10, all)
	young := endedJob(t, a, "young", now.Add(-time.Hour), 10, all)

	a.maintainer.prune()
	require.NoDirExists(t, old.Dir, "over its age")
	require.NoDirExists(t, large.Dir, "the oldest goes when they are too large together")
	require.DirExists(t, larger.Dir)
	require.DirExists(t, young.Dir)
	require.DirExists(t, waiting.Dir, "its result was not accepted")
	require.True(t, a.registry.knows("old"), "its command is never run again")
	require.Nil(t, a.registry.find("large"))
}
