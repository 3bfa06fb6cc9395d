package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Mounted makes a file system of its own for a test; mkfs takes options.
func Mounted(t testing.TB, kind string, megabytes int, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
			t.Skip("SKIPPED: no mounts here: ", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		f, err := os.Create(image)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(int64(megabytes)<<20))
		require.NoError(t, f.Close())
		if out, err := exec.Command("mkfs."+kind, append([]string{"-q", image}, options...)...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no %s here: %v %s", kind, err, out)
		}
		if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no loop mounts here: %v %s", err, out)
		}
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// InCache reports whether the page cache has half of the file at path or more,
// or may have.
func InCache(t testing.TB, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	return inCache(f, 0, info.Size())
}
