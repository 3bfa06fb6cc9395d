package agent_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/storage"
)

// ownShelf is a storage that was made with settings of its own.
type ownShelf struct {
	shelf
	now storage.Settings
}

func (s *ownShelf) Settings() storage.Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *ownShelf) Configure(now storage.Settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	return nil
}

func TestAStorageKeepsTheSettingsItWasMadeWith(t *testing.T) {
	t.Parallel()
	made := storage.Settings{Dir: "/data/models", ShareSource: "//nas/models", ShareMount: "/mnt/models"}
	tests := []struct {
		name  string
		own   agent.Settings
		given map[string]string // by the server
		want  storage.Settings
	}{
		{"the server is silent", agent.Settings{}, nil, made},
		{"the server sends its defaults", agent.Settings{}, map[string]string{
			"model_storage_dir": "~/.kitt/models", "model_share_source": "", "model_share_mount": "", "auto_cleanup": "true",
		}, made},
		{"the server chooses", agent.Settings{}, map[string]string{"model_storage_dir": "/fast"}, storage.Settings{
			Dir: "/fast", ShareSource: "//nas/models", ShareMount: "/mnt/models",
		}},
		{"the program chooses", agent.Settings{ModelDir: "/other", AutoCleanup: new(true)}, nil, storage.Settings{
			Dir: "/other", ShareSource: "//nas/models", ShareMount: "/mnt/models", AutoCleanup: true,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				for name, value := range tt.given {
					srv.Set(name, value)
				}
				models := &ownShelf{now: made}
				a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, Storage: models, Settings: tt.own})
				defer stop()
				time.Sleep(5 * time.Minute)
				require.Equal(t, tt.want, models.Settings())
				require.Equal(t, tt.want.Dir, a.Status().Settings["model_storage_dir"])
			})
		})
	}
}

// Agents of one program that keep their models in one directory leave each
// other's leases alone, though nobody gave their storages a name.
func TestAgentsThatShareADirectoryOfModels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, share := t.TempDir(), t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(share, "model.bin"), []byte("weights"), 0o600))
		begin := func() (srv *agenttest.Server, cfg agent.Config) {
			models, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: share, AutoCleanup: true}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, models.Close()) })
			srv = &agenttest.Server{}
			return srv, agent.Config{Server: srv, Runner: &play{run: hangs}, Storage: models, Dir: t.TempDir()}
		}
		srv, first := begin()
		id := srv.Launch(filepath.Join(share, "model.bin"))
		a, stop := start(t, first)
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		synctest.Wait()
		require.FileExists(t, filepath.Join(dir, "model.bin"))

		_, second := begin()
		_, stopSecond := start(t, second)
		time.Sleep(time.Minute)
		require.FileExists(t, filepath.Join(dir, "model.bin"), "a benchmark uses it")
		stopSecond()
		require.NoError(t, a.Cancel(within(t, time.Minute), id, "user"))
		require.NoFileExists(t, filepath.Join(dir, "model.bin"))
		stop()
	})
}

// TestADefaultThatWasChosenOutlivesARestart has somebody choose the server's default on
// the server, over this machine's own directory: the models stay there after a restart,
// also while the server is away.
func TestADefaultThatWasChosenOutlivesARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		srv := &agenttest.Server{Fault: func(string) error {
			if away.Load() {
				return agenttest.ErrDown
			}
			return nil
		}}
		own := storage.Settings{Dir: "/data"}
		cfg := agent.Config{Server: srv, Runner: &play{run: hangs}, Dir: t.TempDir(), Settings: agent.Settings{ModelDir: "/data"}}
		begin := func() (*agent.Agent, *ownShelf, func()) {
			models := &ownShelf{now: own}
			cfg.Storage = models
			a, stop := start(t, cfg)
			time.Sleep(2 * time.Minute)
			return a, models, stop
		}
		srv.Set("model_storage_dir", "/fast")
		_, models, stop := begin()
		require.Equal(t, "/fast", models.Settings().Dir)
		srv.Set("model_storage_dir", "~/.kitt/models")
		time.Sleep(2 * time.Minute)
		require.Equal(t, "~/.kitt/models", models.Settings().Dir)
		stop()

		a, models, stop := begin()
		require.Equal(t, "~/.kitt/models", models.Settings().Dir)
		require.Equal(t, agent.SourceServer, a.Status().SettingSources["model_storage_dir"])
		stop()

		away.Store(true)
		a, models, stop = begin()
		defer stop()
		require.Equal(t, "~/.kitt/models", models.Settings().Dir)
		require.Equal(t, agent.SourceRemembered, a.Status().SettingSources["model_storage_dir"])
	})
}
