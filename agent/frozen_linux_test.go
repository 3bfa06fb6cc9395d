package agent_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// The requests that freeze and thaw a file system (ioctl_fifreeze(2), linux/fs.h).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// freezableDir returns a directory on a file system of its own, and what freezes it:
// every write to it then hangs until thaw is called.
func freezableDir(t *testing.T) (dir string, freeze, thaw func()) {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(64<<20))
	require.NoError(t, f.Close())
	for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system of its own for the test: %v: %v: %s", command, err, out)
		}
	}
	root, err := os.Open(dir)
	require.NoError(t, err)
	frozen := false
	request := func(code uint, freezes bool) func() {
		return func() {
			if frozen == freezes {
				return
			}
			require.NoError(t, unix.IoctlSetInt(int(root.Fd()), code, 0))
			frozen = freezes
		}
	}
	thaw = request(fiThaw, false)
	t.Cleanup(func() {
		thaw()
		require.NoError(t, root.Close())
		require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
	return dir, request(fiFreeze, true), thaw
}

// The disk with the jobs hangs while a benchmark runs. Status answers, a cancel ends
// the benchmark, and when the disk is back the job ends as it would have.
func TestADiskThatHangsHoldsUpNeitherStatusNorCancel(t *testing.T) {
	t.Parallel()
	dir, freeze, thaw := freezableDir(t)
	srv := &agenttest.Server{}
	stopped := make(chan struct{})
	run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		defer close(stopped)
		return hangs(ctx, job, out)
	}}
	a, url := serveAgent(t, agent.Config{Server: srv, Dir: dir, Runner: run})
	id, err := a.Submit(agent.Benchmark{ID: "job-1", Model: "m"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(run.ran()) == 1 }, 10*time.Second, time.Millisecond)

	freeze()
	status := func() agent.Status {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/status", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var s agent.Status
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&s))
		return s
	}
	require.Len(t, status().Jobs, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, a.Cancel(ctx, id, "user"), context.DeadlineExceeded, "its end cannot be written yet")
	<-stopped // though the disk hangs
	s := status()
	require.Len(t, s.Jobs, 1)
	require.Equal(t, "user", s.Jobs[0].CancelledBy)
	_, err = a.Job(id)
	require.NoError(t, err)

	thaw()
	ended, err := a.Wait(within(t, 10*time.Second), id)
	require.NoError(t, err)
	require.Equal(t, agent.StateCancelled, ended.State)
	require.Equal(t, "Cancelled by user", ended.Error)
}
