package modelcopy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestResultDescribesTheCopy compares what Copy returns with what is on disk.
func TestResultDescribesTheCopy(t *testing.T) {
	t.Parallel()
	share, stage := t.TempDir(), filepath.Join(t.TempDir(), "stage")
	require.NoError(t, os.MkdirAll(filepath.Join(share, "m/d"), 0o755))
	for name, size := range map[string]int{"m/big": 3 << 20, "m/d/small": 10, "m/empty": 0} {
		require.NoError(t, os.WriteFile(filepath.Join(share, name), []byte(noise(size, 1)), 0o644))
	}
	require.NoError(t, os.Link(filepath.Join(share, "m/big"), filepath.Join(share, "m/name")))
	require.NoError(t, os.Symlink("d/small", filepath.Join(share, "m/soft")))

	counters := new(Counters)
	r, err := Copy(t.Context(), Options{
		Share: share, Model: "m", Stage: stage, Counters: counters,
		Note: func(string) {}, Reserve: func(_, _ int64) error { return nil },
	}, []*OpTimer{new(OpTimer)})
	require.NoError(t, err)
	const bytes = 3<<20 + 10
	require.EqualValues(t, bytes, r.Bytes)
	require.Equal(t, 3, r.Files)
	require.Equal(t, Snapshot{BytesDone: bytes, BytesTotal: bytes, FilesDone: 3, FilesTotal: 3, BytesAllocated: bytes}, counters.Snapshot())
	first, ok := r.FirstFile()
	require.True(t, ok)
	require.FileExists(t, filepath.Join(stage, "data", first))

	root, err := os.OpenRoot(filepath.Join(stage, "data"))
	require.NoError(t, err)
	defer root.Close()
	hasher := FileHasher{Root: root, Piece: r.Piece, Progress: func(int64) {}}
	kinds, links := map[string]Kind{}, map[string]string{}
	for it := range r.Items() {
		kinds[it.Path], links[it.Path] = it.Kind, it.Link
		info, err := root.Lstat(it.Path)
		require.NoError(t, err)
		if it.Kind != KindFile && it.Kind != KindHardlink {
			continue
		}
		require.Equal(t, info.Size(), it.Size, it.Path)
		require.Equal(t, info.ModTime().UnixNano(), it.MTime, it.Path)
		if it.Hash != "" { // it doesn't share blocks
			sum, size, err := hasher.Hash(t.Context(), it.Path)
			require.NoError(t, err)
			require.Equal(t, it.Hash, sum, it.Path)
			require.Equal(t, it.Size, size, it.Path)
		}
	}
	require.Equal(t, map[string]Kind{".": KindDir, "d": KindDir, "d/small": KindFile, "empty": KindFile,
		"big": KindFile, "name": KindHardlink, "soft": KindSymlink}, withoutChance(kinds))
	require.Equal(t, "d/small", links["soft"])
	for range r.Items() {
		break // a reader may stop
	}
}

// withoutChance gives two hard links a fixed order: the scan takes either as the
// first.
func withoutChance(kinds map[string]Kind) map[string]Kind {
	if kinds["big"] == KindHardlink {
		kinds["big"], kinds["name"] = kinds["name"], kinds["big"]
	}
	return kinds
}
