package process_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// fill takes all room of the file system of dir, and returns what gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			size /= 2
		}
	}
	return func() { require.NoError(t, os.Remove(path)) }
}

// TestTheDiskIsFull fills the disk while a benchmark prints: it goes on, all it
// prints is there, and how it ended is known once there is room for that.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	for _, fs := range []string{"tmpfs", "ext4"} {
		t.Run(fs, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			mountSmall(t, fs, dir)
			job := newJob(t, "fake:lines=1000,width=200,delay=1ms,no-metrics")
			job.Dir = filepath.Join(dir, "job")
			require.NoError(t, os.Mkdir(job.Dir, 0o700))
			var out runnertest.Recorder
			ended := make(chan error, 1)
			go func() {
				_, err := supervised(t).Run(t.Context(), job, &out)
				ended <- err
			}()
			require.Eventually(t, func() bool { return out.Text() != "" }, 20*time.Second, time.Millisecond)
			free := fill(t, dir)
			require.Less(t, len(out.Text()), 100_000, "the disk was full in time")
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(10 * time.Second): // the reserve was given back, and taken by others
				free()
				require.NoError(t, <-ended)
			}
			require.Len(t, out.Text(), 1000*200)
			info, err := os.Stat(filepath.Join(job.Dir, "process", "output"))
			require.NoError(t, err)
			require.LessOrEqual(t, info.Sys().(*syscall.Stat_t).Blocks*512, info.Size()+8192, "the reserve is given back")
		})
	}
}

// mountSmall mounts a file system of 32 MiB at dir.
func mountSmall(t *testing.T, fs, dir string) {
	t.Helper()
	args := []string{"-t", "tmpfs", "-o", "size=32m", "none", dir}
	if fs != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		require.NoError(t, os.WriteFile(image, nil, 0o600))
		require.NoError(t, os.Truncate(image, 32<<20))
		out, err := exec.Command("mkfs."+fs, "-q", image).CombinedOutput()
		if err != nil {
			t.Skipf("no file system of its own for the test: mkfs.%s: %v: %s", fs, err, out)
		}
		args = []string{"-t", fs, "-o", "loop", image, dir}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("no file system of its own for the test: mount: %v: %s", err, out)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}
