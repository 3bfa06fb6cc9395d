package integrity

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A model that was just written is warm.
func TestPageCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), make([]byte, 4<<20), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "config.json"), []byte("{}"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	require.NoError(t, os.Symlink("model.safetensors", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("sub", filepath.Join(dir, "directory")))
	c, err := pageCacheOf(t.Context(), []string{dir, filepath.Join(dir, "sub", "config.json")})
	require.NoError(t, err)
	require.Equal(t, 3, c.Files)
	require.Equal(t, 2*pagesPerFile+1, c.Pages)
	require.Greater(t, c.Resident, 0.5)

	_, err = pageCacheOf(t.Context(), []string{filepath.Join(dir, "empty")})
	require.ErrorContains(t, err, "no model file")
	_, err = pageCacheOf(t.Context(), []string{filepath.Join(dir, "missing")})
	require.ErrorIs(t, err, os.ErrNotExist)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = pageCacheOf(done, []string{dir})
	require.ErrorIs(t, err, context.Canceled)
}
