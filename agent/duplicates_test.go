package agent_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// counts returns a run of d that counts how often each job begins.
func counts(begun *sync.Map, d time.Duration) func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return func(ctx context.Context, job runner.Job, _ runner.Output) (runner.Result, error) {
		n, _ := begun.LoadOrStore(job.ID, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		select {
		case <-time.After(d):
			return runner.Result{}, nil
		case <-ctx.Done():
			return runner.Result{}, context.Cause(ctx)
		}
	}
}

func requireOnce(t *testing.T, begun *sync.Map, jobs int) {
	t.Helper()
	n := 0
	begun.Range(func(id, count any) bool {
		require.EqualValues(t, 1, count.(*atomic.Int32).Load(), id)
		n++
		return true
	})
	require.Equal(t, jobs, n)
}

// copyDir copies an agent's directory, as a cloned machine has it.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "clone")
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

// TestAClonedDirectory clones the directory of an agent with jobs that wait, and starts
// a second agent on it: soon after, so that the server has heard nothing of the first
// meanwhile, and late.
func TestAClonedDirectory(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"soon": 0, "late": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				var begun sync.Map
				cfg := agent.Config{Server: srv, Runner: &play{run: counts(&begun, 20*time.Minute)}, Dir: t.TempDir()}
				first, stop := start(t, cfg)
				defer stop()
				var ids []string
				for range 3 {
					ids = append(ids, srv.Launch("m"))
				}
				for _, id := range ids[1:] {
					require.NoError(t, srv.Wait(within(t, 10*time.Minute), id, "dispatched"))
				}
				<-time.After(time.Minute)
				cfg.Dir = copyDir(t, cfg.Dir)
				<-time.After(after)

				second, stopSecond := start(t, cfg)
				defer func() { stopSecond() }()
				<-time.After(5 * time.Minute)
				require.Contains(t, strings.Join(second.Status().Warnings, "\n"), `There are two agents with the name "gpu-01"`)
				require.Contains(t, second.Status().Degraded, "another agent uses this agent's name")
				require.Empty(t, second.Status().Jobs, "it recovers nothing")

				for _, id := range ids {
					require.NoError(t, srv.Wait(within(t, 3*time.Hour), id, "completed"))
					require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
				}
				requireOnce(t, &begun, 3)
				require.Len(t, srv.Results(), 3)
				// It stays silent, also after restarts, so nothing holds up the first one.
				for range 3 {
					<-time.After(5 * time.Minute)
					require.Contains(t, second.Status().Degraded, "another agent uses this agent's name")
					stopSecond()
					second, stopSecond = start(t, cfg)
				}
				next := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, time.Hour), next, "completed"))
				requireOnce(t, &begun, 4)
				require.Empty(t, second.Jobs())
				require.Empty(t, first.Status().Degraded)
				stopSecond()
			})
		})
	}
}

// TestAMovedDirectory moves the directory of an agent that has stopped: nobody else sends
// heartbeats, so the jobs go on, and after a restart at the new place at once.
func TestAMovedDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var begun sync.Map
		cfg := agent.Config{Server: srv, Runner: &play{run: counts(&begun, time.Minute)}, Dir: t.TempDir()}
		_, stop := start(t, cfg)
		first, second := srv.Launch("m"), srv.Launch("n")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), second, "dispatched"))
		stop()
		require.NoError(t, srv.WaitEnded(within(t, 5*time.Minute), first))

		cfg.Dir = copyDir(t, cfg.Dir)
		a, stop := start(t, cfg)
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), second, "completed"))
		require.Empty(t, a.Status().Degraded)
		requireOnce(t, &begun, 2)
	})
}

// TestACopyWaitsForTheServer starts an agent on a copied directory while the server is
// away: only the server can say whether there are two.
func TestACopyWaitsForTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		srv := &agenttest.Server{Fault: func(string) error {
			if away.Load() {
				return agenttest.ErrDown
			}
			return nil
		}}
		var begun sync.Map
		cfg := agent.Config{Server: srv, Runner: &play{run: counts(&begun, time.Hour)}, Dir: t.TempDir()}
		_, stop := start(t, cfg)
		first, second := srv.Launch("m"), srv.Launch("n")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), second, "dispatched"))
		away.Store(true)
		stop()
		cfg.Dir = copyDir(t, cfg.Dir)
		a, stop := start(t, cfg)
		defer stop()
		<-time.After(30 * time.Minute)
		require.Empty(t, a.Jobs())
		away.Store(false)
		require.NoError(t, srv.Wait(within(t, 10*time.Minute), first, "failed"))
		require.NoError(t, srv.Wait(within(t, 2*time.Hour), second, "completed"))
		requireOnce(t, &begun, 2)
	})
}

// TestASecondAgentWithANewDirectory starts an agent with the name of one that runs: it
// takes none of what the server has handed to the first.
func TestASecondAgentWithANewDirectory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var begun sync.Map
		cfg := agent.Config{Server: srv, Runner: &play{run: counts(&begun, time.Minute)}}
		_, stop := start(t, cfg)
		defer stop()
		var ids []string
		for range 5 {
			ids = append(ids, srv.Launch("m"))
		}
		require.NoError(t, srv.Wait(within(t, 10*time.Minute), ids[4], "dispatched"))
		second, stop := start(t, cfg)
		defer stop()
		<-time.After(15 * time.Minute)
		require.Contains(t, second.Status().Degraded, "another agent uses this agent's name")
		require.Empty(t, second.Jobs())
		requireOnce(t, &begun, 5)
	})
}

// TestWhatLooksLikeASecondAgent has an agent start where it is the only one: nothing is
// held back.
func TestWhatLooksLikeASecondAgent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		most   time.Duration // until the job that waits has begun
	}{
		"a restart":                            {func(*testing.T, string) {}, time.Second},
		"a server restored from a backup":      {edit("at", "2099-01-01T00:00:00Z"), time.Second},
		"another boot":                         {edit("boot_id", "another"), time.Second},
		"a heartbeat whose answer got lost":    {both(edit("open", true), edit("at", "1999-01-01T00:00:00Z")), 2 * time.Minute},
		"a file of an agent that kept none":    {func(t *testing.T, dir string) { require.NoError(t, os.Remove(beatFile(dir))) }, time.Second},
		"a file that is damaged":               {func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(beatFile(dir), []byte("{"), 0o600)) }, time.Second},
		"a machine whose disk moved into it":   {edit("machine_id", "another"), 2 * time.Minute},
		"a directory restored from an archive": {edit("dir_id", "1"), 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				var begun sync.Map
				cfg := agent.Config{Server: srv, Runner: &play{run: counts(&begun, time.Hour)}, Dir: t.TempDir()}
				_, stop := start(t, cfg)
				first, second := srv.Launch("m"), srv.Launch("n")
				require.NoError(t, srv.Wait(within(t, 5*time.Minute), second, "dispatched"))
				<-time.After(time.Minute)
				stop()
				require.NoError(t, srv.WaitEnded(within(t, time.Minute), first))
				tt.change(t, cfg.Dir)
				a, stop := start(t, cfg)
				defer stop()
				require.NoError(t, srv.Wait(within(t, tt.most+time.Second), second, "running"))
				<-time.After(10 * time.Minute)
				require.Empty(t, a.Status().Degraded)
			})
		})
	}
}

func beatFile(dir string) string { return filepath.Join(dir, "heartbeat.json") }

// edit returns what changes a field of the file with the latest heartbeat.
func edit(field string, value any) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		text, err := os.ReadFile(beatFile(dir))
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(text, &fields))
		require.Contains(t, fields, field)
		fields[field] = value
		text, err = json.Marshal(fields)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(beatFile(dir), text, 0o600))
	}
}

func both(a, b func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
}

// TestRestartsAtAnyMoment stops and starts an agent at moments at which a heartbeat may
// be on its way: none of them makes the next start doubt that it is the only one.
func TestRestartsAtAnyMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{Fault: func(string) error {
			<-time.After(50 * time.Millisecond)
			return nil
		}}
		cfg := agent.Config{Server: srv, Runner: &engine{lines: 1 << 20, pace: time.Second}, Dir: t.TempDir()}
		_, stop := start(t, cfg)
		require.NoError(t, srv.Wait(within(t, time.Minute), srv.Launch("m"), "running"))
		draw := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			<-time.After(time.Duration(draw.IntN(400)) * time.Millisecond)
			stop()
			var a *agent.Agent
			a, stop = start(t, cfg)
			<-time.After(100 * time.Millisecond)
			require.Len(t, a.Jobs(), 1)
			require.Empty(t, a.Status().Warnings)
		}
		stop()
	})
}
