package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
)

// deaf is a Server and Reporter that is never called.
type deaf struct {
	Server
	Reporter
}

type noRunner struct{}

func (noRunner) Run(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return runner.Result{}, nil
}

// endedJob puts a job into a's store that ended at the given time.
func endedJob(t *testing.T, a *Agent, id string, ended time.Time, size int, l ledger) *job {
	t.Helper()
	o := testOrder(id)
	o.Command = heartbeat.Command{ID: id, Type: TypeRunTest}
	j, err := a.store.create(id, o, newRecord(o))
	require.NoError(t, err)
	j.rec.State, j.rec.EndedAt = StateCompleted, ended
	j.rec.Outcome = &ending{State: StateCompleted}
	require.NoError(t, os.WriteFile(filepath.Join(j.resultsDir(), "raw"), make([]byte, size), 0o600))
	d, err := openDelivery(j.path(deliveryFile))
	require.NoError(t, err)
	require.NoError(t, d.set(func(now *ledger) { *now = l }))
	require.NoError(t, d.Close())
	a.jobs[id] = j
	return j
}

func TestOldDeliveredJobsAreRemoved(t *testing.T) {
	t.Parallel()
	a, err := New(Config{
		Name: "x", Dir: t.TempDir(), Server: deaf{}, Reporter: deaf{}, Runner: noRunner{},
		Keep: Retention{MaxAge: 30 * 24 * time.Hour, MaxBytes: 1 << 20},
	})
	require.NoError(t, err)
	a.store, err = openStore(filepath.Join(a.cfg.Dir, "jobs"))
	require.NoError(t, err)
	now := time.Now()
	all := ledger{Log: true, Result: true, Terminal: true}
	old := endedJob(t, a, "old", now.Add(-31*24*time.Hour), 10, all)
	waiting := endedJob(t, a, "waiting", now.Add(-90*24*time.Hour), 10, ledger{Log: true})
	large := endedJob(t, a, "large", now.Add(-3*time.Hour), 700<<10, all)
	larger := endedJob(t, a, "larger", now.Add(-2*time.Hour), 700<<10, all)
	young := endedJob(t, a, "young", now.Add(-time.Hour), 10, all)

	a.prune()
	require.NoDirExists(t, old.dir, "over its age")
	require.NoDirExists(t, large.dir, "the oldest goes when they are too large together")
	require.DirExists(t, larger.dir)
	require.DirExists(t, young.dir)
	require.DirExists(t, waiting.dir, "its result was not accepted")
	require.True(t, a.knows("old"), "its command is never run again")
}

func TestLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), deliveryFile)
	d, err := openDelivery(path)
	require.NoError(t, err)
	require.NoError(t, d.set(func(l *ledger) { l.Next, l.Lines, l.Refused = 7, 5, string(make([]byte, 5000)) }))
	require.NoError(t, d.sync())
	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	l := peekLedger(path)
	require.EqualValues(t, 7, l.Next)
	require.EqualValues(t, 5, l.Lines)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(2*ledgerSize))
}

// FuzzLedger reads whatever may be in the file: it never fails, and never
// yields a place before the first record.
func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":3,"lines":2}`))
	f.Add([]byte("\x00\x00\x00"))
	f.Add([]byte(`{"next":-1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), deliveryFile)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		l := peekLedger(path)
		require.GreaterOrEqual(t, l.Next, int64(0))
		require.GreaterOrEqual(t, l.Lines, int64(0))
	})
}
