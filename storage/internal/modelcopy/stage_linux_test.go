package modelcopy

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStageWithForeignFiles puts files of all kinds into the stage that lead to
// files outside of it.
func TestStageWithForeignFiles(t *testing.T) {
	t.Parallel()
	const data = "data/a"
	for _, tt := range []struct{ name, path, kind string }{
		{"a link to a directory", "", "link"},
		{"a file", "", "file"},
		{"a link for a journal", "journal", "link"},
		{"a hard link for a journal", "journal", "hard link"},
		{"a directory for a journal", "journal", "directory"},
		{"a FIFO for a journal", "journal", "fifo"},
		{"a link for the model", "data", "link"},
		{"a link for a file", data, "link"},
		{"a hard link for a file", data, "hard link"},
		{"a FIFO for a file", data, "fifo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			share, theirs := t.TempDir(), t.TempDir()
			stage, _, err := copyWhile(t, share, func(int) {})
			require.NoError(t, err)
			keep := filepath.Join(theirs, "data", "keep")
			require.NoError(t, os.Mkdir(filepath.Dir(keep), 0o755))
			require.NoError(t, os.WriteFile(keep, []byte("theirs"), 0o600))
			at, target := filepath.Join(stage, tt.path), keep
			if tt.path == "" || tt.path == "data" {
				target = theirs
			}
			require.NoError(t, os.RemoveAll(at))
			require.NoError(t, map[string]func() error{
				"link":      func() error { return os.Symlink(target, at) },
				"hard link": func() error { return os.Link(target, at) },
				"file":      func() error { return os.WriteFile(at, nil, 0o600) },
				"directory": func() error { return os.Mkdir(at, 0o700) },
				"fifo":      func() error { return syscall.Mkfifo(at, 0o600) },
			}[tt.kind]())

			rerun(t, share, stage)
			got, err := os.ReadFile(keep)
			require.NoError(t, err)
			require.Equal(t, "theirs", string(got))
			entries, err := os.ReadDir(theirs)
			require.NoError(t, err)
			require.Len(t, entries, 1, "the copy writes nothing there")
			for name, size := range map[string]int{"a": 3 << 20, "b": 10} {
				got, err := os.ReadFile(filepath.Join(stage, "data", name))
				require.NoError(t, err)
				require.True(t, strings.Repeat("w", size) == string(got))
			}
		})
	}
}

// TestGarbageInAHole writes into the staged file where the model has a hole.
func TestGarbageInAHole(t *testing.T) {
	t.Parallel()
	share := t.TempDir()
	stage, _, err := copyWhile(t, share, func(attempt int) {
		if attempt == 1 {
			require.NoError(t, os.Truncate(filepath.Join(share, "m/a"), 9<<20))
		}
	})
	require.NoError(t, err)
	f, err := os.OpenFile(filepath.Join(stage, "data/a"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("garbage"), 5<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	rerun(t, share, stage)
	got, err := os.ReadFile(filepath.Join(stage, "data/a"))
	require.NoError(t, err)
	require.True(t, strings.Repeat("w", 3<<20)+string(make([]byte, 6<<20)) == string(got))
}

// A run that was interrupted left hard links in its stage, and the originals have
// changed since. Nothing is written through the links.
func TestALinkedOriginalIsNeverWritten(t *testing.T) {
	t.Parallel()
	for _, link := range []bool{true, false} {
		share := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(share, "m"), 0o755))
		original := filepath.Join(share, "m/a")
		require.NoError(t, os.WriteFile(original, []byte("theirs"), 0o644))
		o := Options{Share: share, Model: "m", Link: true, Stage: filepath.Join(t.TempDir(), "stage"), Counters: new(Counters),
			Note: func(string) {}, Reserve: func(_, _ int64) error { return nil }}
		result, err := start(t, newCopier(o))
		require.NoError(t, err)
		require.EqualValues(t, 6, result.Shared)
		require.NoError(t, os.WriteFile(original, []byte("changed"), 0o644))
		o.Link, o.Counters = link, new(Counters)
		_, err = start(t, newCopier(o))
		require.NoError(t, err)
		for _, name := range []string{original, filepath.Join(o.Stage, "data/a")} {
			got, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, "changed", string(got))
			info, err := os.Stat(name)
			require.NoError(t, err)
			require.EqualValues(t, map[bool]int{true: 2, false: 1}[link], info.Sys().(*syscall.Stat_t).Nlink)
		}
	}
}
