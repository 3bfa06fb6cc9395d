package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/storage"
)

// Machines that keep their models in different places are one model on the
// server's pages.
func TestAResultNamesTheModelAlikeOnEveryMachine(t *testing.T) {
	t.Parallel()
	for _, requested := range []string{"org/Model", "SHARE/org/Model"} {
		for _, name := range []string{"one", "two"} {
			share, dir := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(share, "org/Model"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(share, "org/Model/config.json"), []byte("{}"), 0o644))
			models, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: share}})
			require.NoError(t, err)
			srv := &agenttest.Server{}
			_, stop := start(t, agent.Config{Name: name, Server: srv, Storage: models, Runner: &play{run: prints(1, 0)}})
			id := srv.Launch(strings.Replace(requested, "SHARE", share, 1))
			require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
			stop()
			require.NoError(t, models.Close())
			data := srv.Results()[0].Data
			require.Equal(t, "org/Model", data["model"])
			require.Equal(t, filepath.Join(dir, "org/Model"), data["model_path"])
		}
	}
}
