package config

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	_, err := Open(path)
	require.ErrorContains(t, err, "it is not a plain file")
}
