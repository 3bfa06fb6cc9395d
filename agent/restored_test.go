package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// TestAServerRestoredFromABackup puts a server back to the time before a job ended: it
// offers the job again, or calls it handed out, and gets its reports again. The benchmark
// does not run again.
func TestAServerRestoredFromABackup(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  string
		rows    int // of the log that the backup has
		restart bool
	}{
		"offered again":              {"queued", 0, false},
		"offered again, with a log":  {"queued", 5, false},
		"handed out":                 {"dispatched", 0, false},
		"handed out, half a log":     {"dispatched", 5, false},
		"running":                    {"running", 5, false},
		"running, then a restart":    {"running", 0, true},
		"handed out, then a restart": {"dispatched", 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				run := &play{run: prints(20, time.Second)}
				cfg := agent.Config{Server: srv, Runner: run, Dir: t.TempDir()}
				a, stop := start(t, cfg)
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
				<-time.After(time.Minute)
				require.Zero(t, a.Status().Undelivered)

				all := srv.Lines(id)
				srv.SetDown(true)
				<-time.After(5 * time.Minute)
				if tt.restart {
					stop()
				}
				srv.Restore(id, tt.status, tt.rows)
				srv.SetDown(false)
				if tt.restart {
					a, stop = start(t, cfg)
				}
				defer stop()
				require.NoError(t, srv.Wait(within(t, 10*time.Minute), id, "completed"))
				require.Equal(t, all, srv.Lines(id))
				require.Len(t, srv.Results(), 1)
				require.NotEmpty(t, srv.Results()[0].Data)
				require.Len(t, run.ran(), 1)
				synctest.Wait()
				require.Zero(t, a.Status().Undelivered)
			})
		})
	}
}
