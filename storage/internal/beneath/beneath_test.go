package beneath

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

func FuzzStaysBelow(f *testing.F) {
	f.Add("../x", 1)
	f.Add("a/../../x", 1)
	f.Add("./../..", 2)
	f.Fuzz(func(t *testing.T, text string, depth int) {
		depth = min(max(depth, 0), 20)
		if !StaysBelow(depth, text) {
			return
		}
		top := filepath.Join("/top", strings.Repeat("d/", depth))
		at := filepath.Join(top, text)
		require.True(t, at == "/top" || strings.HasPrefix(at, "/top/"), at)
	})
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	for name, text := range map[string]string{
		"one": "a", "a/up": "../one/b", "absolute": dir + "/a", "top": dir, "out": "/etc", "above": "../x", "self": "self",
	} {
		require.NoError(t, os.Symlink(text, filepath.Join(dir, name)))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	for rel, want := range map[string]string{
		".": ".", "one/b": "a/b", "a/up": "a/b", "absolute/b": "a/b", "top": ".", "a//./b/": "a/b", "one/../a": "a",
	} {
		got, err := Resolve(root, []string{dir}, rel)
		require.NoError(t, err, rel)
		require.Equal(t, want, got, rel)
	}
	for rel, class := range map[string]string{
		"out": iofault.Escape, "above": iofault.Escape, "..": iofault.Escape, "one/../../x": iofault.Escape, "none/../..": iofault.Escape, "self": iofault.Loop,
	} {
		_, err := Resolve(root, []string{dir}, rel)
		require.Equal(t, class, iofault.ClassOf(err), rel)
	}
	got, err := Resolve(root, nil, "one/none/rest")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, "a/none/rest", got)
}

func TestFolderFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b/w"), []byte("1"), 0o644))
	require.NoError(t, os.Symlink("a", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("w", filepath.Join(dir, "a/b/link")))
	top, err := Open(dir)
	require.NoError(t, err)
	inner, err := top.Enter("a/b")
	require.NoError(t, err)
	require.Equal(t, "a/b", inner.Path)
	file, err := inner.OpenFile("w", os.O_RDONLY, 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	_, err = inner.OpenFile("link", os.O_RDONLY, 0)
	require.Error(t, err)
	require.NoError(t, inner.Close())
	require.NoError(t, top.Close())
	require.NoError(t, Folder{}.Close())
	_, err = Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}
