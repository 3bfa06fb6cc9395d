package agent

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheMemoryIsKept(t *testing.T) {
	t.Parallel()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	m := openMemory(dir, log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.run(ctx) }()
	want := map[string]savedSetting{settingModelDir: {Sent: "/fast", Chosen: true, Own: "/data"}}
	m.set(func(r *remembered) { r.Settings = want })
	cancel()
	<-done
	require.Equal(t, want, openMemory(dir, log).get().Settings)

	for _, damage := range []string{"", "{", `{"settings":[]}`, "null", "\x00"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, memoryFile), []byte(damage), 0o600))
		require.Empty(t, openMemory(dir, log).get().Settings, damage)
	}
}

func FuzzMemory(f *testing.F) {
	f.Add([]byte(`{"version":1,"settings":{"model_storage_dir":{"sent":"/fast","chosen":true,"own":"/data"}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, memoryFile), text, 0o600))
		m := openMemory(dir, slog.New(slog.DiscardHandler))
		s, err := newSettings(Settings{ModelDir: "/data"}, nil)
		require.NoError(t, err)
		s.restore(m.get().Settings)
		for _, each := range s.all {
			require.True(t, each.value == "" || each.value == each.own || each.check(each.value) == nil, each.value)
		}
	})
}
