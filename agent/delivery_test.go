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

// TestALostCheckpointSendsNothingTwice breaks the record of what the server has
// accepted, of a job that is delivered: the server is asked what it holds, and gets
// nothing a second time.
func TestALostCheckpointSendsNothingTwice(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"gone":    os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"garbage": func(path string) error { return os.WriteFile(path, []byte("\x00{"), 0o600) },
		"a directory": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				cfg := agent.Config{Server: srv, Runner: &play{run: prints(10, time.Second)}, Dir: t.TempDir()}
				a, stop := start(t, cfg)
				id := srv.Launch("m")
				require.NoError(t, srv.WaitEnded(within(t, time.Hour), id))
				synctest.Wait()
				stop()
				require.NoError(t, harm(filepath.Join(a.Jobs()[0].Dir, "delivery")))

				a, stop = start(t, cfg)
				defer stop()
				<-time.After(time.Hour)
				require.Zero(t, a.Status().Undelivered)
				require.Len(t, srv.Results(), 1)
				require.Equal(t, numbered(10), benchmarkLines(srv.Lines(id)))
				require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
			})
		})
	}
}
