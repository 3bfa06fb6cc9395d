package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/policy"
)

func limited(t *testing.T, own Settings, p policy.Policy) *settings {
	t.Helper()
	s, err := newSettings(own, nil)
	require.NoError(t, err)
	s.limit(fillPolicy(p, t.TempDir(), s.texts()))
	return s
}

func TestRefusedSettingsLeaveTheValueBefore(t *testing.T) {
	t.Parallel()
	s := limited(t, Settings{ModelDir: "/fast/models", ShareMount: "/nas", Image: "own/bench:1"}, policy.Default(policy.Machine{Home: "/home/agent"}))
	require.Empty(t, s.offer(untouched()))
	require.Empty(t, s.refusals())
	hostile := map[string]string{"model_storage_dir": "/etc/cron.d", "model_share_mount": "/etc", "kitt_image": "evil/image", "model_share_source": "nas:/../x"}
	require.Len(t, s.offer(hostile), 4)
	require.Empty(t, s.offer(hostile), "said once")
	require.Len(t, s.refusals(), 4)
	require.Contains(t, strings.Join(s.refusals(), "\n"), "to allow it, add to agent.yaml: policy: {storage_dirs: [/etc/cron.d]}")
	require.Equal(t, "/fast/models", s.storage().Dir)
	require.Equal(t, "/nas", s.storage().ShareMount)
	require.Equal(t, "own/bench:1", s.image())
	require.Empty(t, s.storage().ShareSource)

	good := map[string]string{"model_storage_dir": "/fast/models", "model_share_mount": "/mnt/x", "kitt_image": "own/bench:2", "model_share_source": "nas:/x"}
	require.Empty(t, s.offer(good))
	require.Empty(t, s.refusals())
	require.Equal(t, "own/bench:2", s.image(), "another tag of the machine's own image")
	require.Len(t, s.offer(hostile), 4, "said again")
	require.Equal(t, "/mnt/x", s.storage().ShareMount)
}

func TestWhatTheServerMayNotSetIsSaidUnlessItIsADefault(t *testing.T) {
	t.Parallel()
	p := policy.Default(policy.Machine{})
	p.ServerMaySet = []string{}
	no := false
	s := limited(t, Settings{ModelDir: "/data", AutoCleanup: &no}, p)
	s.offer(untouched())
	require.Empty(t, s.refusals())
	s.offer(with(with(untouched(), "auto_cleanup", "True"), "heartbeat_interval_s", "60"))
	require.Len(t, s.refusals(), 2)
	s.offer(untouched())
	require.Equal(t, "/data", s.storage().Dir)
	require.False(t, s.storage().AutoCleanup, "a default that was set while the agent looked is no more allowed")
}

func TestRememberedSettingsAreLimitedToo(t *testing.T) {
	t.Parallel()
	free := limited(t, Settings{ModelDir: "/data"}, policy.Policy{})
	require.Empty(t, free.offer(map[string]string{"model_storage_dir": "/etc", "model_share_mount": "/root", "kitt_image": "evil"}))
	require.Equal(t, "/etc", free.storage().Dir, "a program that limits nothing")
	s := limited(t, Settings{ModelDir: "/data"}, policy.Default(policy.Machine{}))
	s.restore(free.saved())
	require.Equal(t, "/data", s.storage().Dir)
	require.Empty(t, s.storage().ShareMount)
	require.Empty(t, s.image())
	require.Len(t, s.refusals(), 3)
}

func TestDirectoryIsLookedAt(t *testing.T) {
	t.Parallel()
	top, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	full := filepath.Join(top, "full")
	require.NoError(t, os.MkdirAll(filepath.Join(full, "files"), 0o755))
	p := policy.Default(policy.Machine{})
	p.StorageDirs = []string{top + "/"}
	s := limited(t, Settings{ModelDir: "/data"}, p)
	a := &Agent{cfg: Config{Policy: p}, settings: s}
	offer := func(dir string) map[string]error {
		a.lookAt(t.Context(), dir)
		return s.offer(map[string]string{"model_storage_dir": dir})
	}
	require.Len(t, offer(full), 1)
	require.Equal(t, "/data", s.storage().Dir)
	require.Contains(t, s.refusals()[0], "it holds files that the agent did not put there")
	require.NoError(t, os.Remove(filepath.Join(full, "files")))
	require.Empty(t, offer(full))
	require.Equal(t, full, s.storage().Dir, "it is looked at again")
	require.NoError(t, os.Mkdir(filepath.Join(full, "files"), 0o755))
	require.Empty(t, offer(full))
	require.Equal(t, full, s.storage().Dir, "once it is used it stays")

	a.looking.Store(true) // another disk hangs
	require.Len(t, offer(filepath.Join(top, "other")), 1)
	require.Contains(t, s.refusals()[0], "takes too long")
	require.Equal(t, full, s.storage().Dir)
	require.Empty(t, offer(filepath.Join(top, "other")), "said once")
	a.looking.Store(false)
	require.NoError(t, os.Remove(filepath.Join(full, "files")))
	require.Empty(t, offer(full))
	require.NoError(t, os.Mkdir(filepath.Join(full, "files"), 0o755))

	restarted := limited(t, Settings{ModelDir: "/data"}, p)
	restarted.restore(s.saved())
	a.settings, s = restarted, restarted
	require.Len(t, offer(full), 1, "said after each start")
	require.Equal(t, "/data", s.storage().Dir, "it was remembered and can't be used")
}
