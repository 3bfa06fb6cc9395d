// Package testdisk mounts file systems for tests.
package testdisk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts a new file system of a kind, such as tmpfs or ext4, until the test
// ends, and returns where. mkfs gets options. Mount skips the test where it can't.
func Mount(t testing.TB, kind string, megabytes int, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
			t.Skip("SKIPPED: no mounts here: ", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		if err := makeImage(image, kind, int64(megabytes)<<20, options); err != nil {
			t.Skipf("SKIPPED: no %s here: %v", kind, err)
		}
		if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: no loop mounts here: %v %s", err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func makeImage(name, kind string, bytes int64, options []string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := f.Truncate(bytes); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	out, err := exec.Command("mkfs."+kind, append([]string{"-q", name}, options...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w %s", err, out)
	}
	return nil
}
