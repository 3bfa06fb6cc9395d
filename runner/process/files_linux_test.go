package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestAStartWaitsForTheDisk starts a benchmark on a disk that is read-only, and lets
// it be written later: it runs, once.
func TestAStartWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	job := newJob(t, "fake:lines=3")
	if err := unix.Mount("tmpfs", job.Dir, "tmpfs", unix.MS_RDONLY, "size=1m"); err != nil {
		if os.Geteuid() == 0 && os.Getenv("CI") != "" {
			require.NoError(t, err, "CI runs as root and can mount")
		}
		t.Skip("no file system of its own for the test: ", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(job.Dir, unix.MNT_DETACH)) })
	job.ResultsDir = t.TempDir()
	var out runnertest.Recorder
	ended := make(chan error, 1)
	go func() {
		_, err := supervised(t).Run(t.Context(), job, &out)
		ended <- err
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.Messages(), "read-only file system") }, 20*time.Second, time.Millisecond)
	require.NoError(t, unix.Mount("tmpfs", job.Dir, "tmpfs", unix.MS_REMOUNT, "size=1m"))
	require.NoError(t, <-ended)
	require.FileExists(t, filepath.Join(job.ResultsDir, runner.MetricsFile))
}

// TestARunIsNotBegunTwice runs a job whose files say that it was begun.
func TestARunIsNotBegunTwice(t *testing.T) {
	t.Parallel()
	job := newJob(t, "fake:lines=200,delay=10ms")
	pid := leave(t, job)
	_, err := supervised(t).Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrBegun)
	require.True(t, running(pid), "it goes on")
	_, err = supervised(t).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.NoError(t, err)
}
