package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

func TestFilesThatOthersCanRead(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{Path: filepath.Join(t.TempDir(), "agent.yaml")}
	cfg.TLS.Key = filepath.Join(t.TempDir(), "key.pem")
	require.Empty(t, modeWarnings(cfg), "there are none")
	for _, file := range []string{cfg.Path, cfg.TLS.Key} {
		require.NoError(t, os.WriteFile(file, nil, 0o600))
	}
	require.Empty(t, modeWarnings(cfg))
	require.NoError(t, os.Chmod(cfg.TLS.Key, 0o640))
	require.Equal(t, []string{"other users can read the private key in " + cfg.TLS.Key + " (mode 0640); run: chmod 600 " + cfg.TLS.Key}, modeWarnings(cfg))
	require.NoError(t, os.Chmod(cfg.Path, 0o644))
	require.Len(t, modeWarnings(cfg), 2)
}
