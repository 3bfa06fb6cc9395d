package modelcopy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/storage/testdata/testdisk"
)

// TestColdModel copies models that are not in the page cache from file systems
// with different rules for direct reads.
func TestColdModel(t *testing.T) {
	t.Parallel()
	// Its end is in the middle of a sector, and its last piece is small.
	data := noise(170<<20+1234, 7)
	for _, kind := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			share := testdisk.Mount(t, kind, 400)
			source := filepath.Join(share, "m/w")
			require.NoError(t, os.Mkdir(filepath.Dir(source), 0o755))
			require.NoError(t, os.WriteFile(source, []byte(data), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(share, "m/config.json"), []byte("{}"), 0o644))
			f, err := os.Open(source)
			require.NoError(t, err)
			defer f.Close()
			require.NoError(t, unix.Syncfs(int(f.Fd())))
			require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
			cold := !inCache(f, 0, int64(len(data)))

			stage := filepath.Join(t.TempDir(), "stage")
			rerun(t, share, stage)
			got, err := os.ReadFile(filepath.Join(stage, "data/w"))
			require.NoError(t, err)
			require.True(t, data == string(got), "%d of %d bytes", len(got), len(data))
			if kind == "tmpfs" || !cold { // tmpfs is memory, and an old kernel cannot tell
				return
			}
			require.False(t, inCache(f, 0, int64(len(data))), "the copy leaves the share's file out of the page cache")
		})
	}
}
