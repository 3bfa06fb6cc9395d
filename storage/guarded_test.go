package storage_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/storage"
)

var errRefused = errors.New("refused")

// A program decides which directories and models are used.
func TestTheProgramDecidesWhatIsUsed(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	model := filepath.Join(outside, "model.bin")
	require.NoError(t, os.WriteFile(model, []byte("weights"), 0o644))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(model, link))
	b := newBench(t, func(c *storage.Config) {
		c.CheckModel = func(path string) error {
			require.Equal(t, model, path, "without links")
			return errRefused
		}
	})
	require.NoError(t, os.WriteFile(filepath.Join(b.Settings().ShareMount, "other.bin"), []byte("weights"), 0o644))
	for _, name := range []string{model, link} {
		_, err := b.Acquire(t.Context(), storage.Request{Model: name, Holder: "job"})
		require.ErrorIs(t, err, errRefused)
	}
	_, err := b.Acquire(t.Context(), storage.Request{Model: filepath.Join(outside, "absent"), Holder: "job"})
	require.ErrorIs(t, err, storage.ErrNotFound)
}

func TestTheProgramDecidesWhereTheShareIs(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "model.bin"), []byte("weights"), 0o644))
	b := newBench(t, func(c *storage.Config) {
		c.CheckShare = func(mount string) error {
			require.Equal(t, other, mount, "the machine's own is not asked about")
			return errRefused
		}
	})
	settings := b.Settings()
	require.NoError(t, os.WriteFile(filepath.Join(settings.ShareMount, "own.bin"), []byte("weights"), 0o644))
	_, err := b.Acquire(t.Context(), storage.Request{Model: "own.bin", Holder: "job"})
	require.NoError(t, err)
	settings.ShareMount = other
	require.NoError(t, b.Configure(settings))
	_, err = b.Acquire(t.Context(), storage.Request{Model: "model.bin", Holder: "job"})
	require.ErrorIs(t, err, errRefused)
	var log basetest.Buffer
	_, err = b.Acquire(t.Context(), storage.Request{Model: "org/model", Holder: "job", Log: &log})
	require.NoError(t, err, "it needs no share")
}

func TestTheProgramOpensTheStorageDirectory(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	b := newBench(t, func(c *storage.Config) {
		c.OpenDir = func(name string, create bool) (*os.Root, string, error) {
			switch name {
			case dir:
				root, err := os.OpenRoot(other)
				return root, other, err
			case filepath.Join(dir, "new"):
				return nil, "", fs.ErrNotExist
			}
			return nil, "", errRefused
		}
	})
	settings := b.Settings()
	require.NoError(t, os.WriteFile(filepath.Join(settings.ShareMount, "own.bin"), []byte("weights"), 0o644))
	for name, want := range map[string]error{dir: nil, t.TempDir(): errRefused} {
		settings.Dir = name
		require.NoError(t, b.Configure(settings))
		lease, err := b.Acquire(t.Context(), storage.Request{Model: "own.bin", Holder: "job"})
		require.ErrorIs(t, err, want)
		if want == nil {
			require.Equal(t, filepath.Join(other, "own.bin"), lease.Path)
		}
		_, err = b.Usage(t.Context())
		require.ErrorIs(t, err, want)
	}
	settings.Dir = filepath.Join(dir, "new")
	require.NoError(t, b.Configure(settings))
	_, err := b.Usage(t.Context())
	require.NoError(t, err, "none yet")
}
