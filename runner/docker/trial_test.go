package docker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

func TestTry(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r := newRunner(t, docker.Config{Owner: "trial"})
	dir := t.TempDir()
	trial, err := r.Try(t.Context(), image, dir)
	require.NoError(t, err)
	require.True(t, trial.Ceiling)
	require.Equal(t, superviseProgram, trial.Program.Path)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	list, err := engine.Client.ContainerList(t.Context(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", docker.LabelOwner+"=trial"),
	})
	require.NoError(t, err)
	require.Empty(t, list.Items)

	_, err = r.Try(t.Context(), "no/such:image", dir)
	require.ErrorIs(t, err, docker.ErrNoImage)
}

// TestTryOnANoexecFileSystem has the program where this machine executes nothing.
// Whether a container does depends on the engine, so it is tried there.
func TestTryOnANoexecFileSystem(t *testing.T) {
	needEngine(t)
	mount := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "none", mount).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no file system of its own for the test: %v: %s", err, out)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
	data, err := os.ReadFile(superviseProgram)
	require.NoError(t, err)
	path := filepath.Join(mount, "kitt-supervise")
	require.NoError(t, os.WriteFile(path, data, 0o755))
	require.NoError(t, unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_NOEXEC, ""))
	require.ErrorIs(t, exec.Command(path, "-check").Run(), os.ErrPermission)
	r, err := docker.New(docker.Config{DefaultImage: image, Supervisor: program.Source{Path: path}, SocketProxy: program.Source{Path: proxyProgram}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	require.NoError(t, r.Ready(t.Context()))
	if _, err = r.Try(t.Context(), image, t.TempDir()); err != nil {
		var e *runner.Error
		require.ErrorAs(t, err, &e)
		require.Contains(t, e.Fix, "noexec")
	}
}

// TestTryWithARemoteEngine has an engine that doesn't see the agent's files.
func TestTryWithARemoteEngine(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	s.answers["POST /containers/create"] = reply(400, `{"message":"invalid mount config for type \"bind\": bind source path does not exist: /x"}`)
	_, err := r.Try(t.Context(), "kitt:latest", t.TempDir())
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Fix, "engine of this machine")
}

// TestTryWhereTheContainerCantWrite has a container whose supervisor can't make
// its files.
func TestTryWhereTheContainerCantWrite(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	s.answers["POST /containers/c1/start"] = reply(204, "")
	s.answers["GET /containers/c1/logs"] = reply(200, frame("", "kitt-supervise: open /x/run/lock: permission denied\n"))
	_, err := r.Try(t.Context(), "kitt:latest", t.TempDir())
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Text, "can't write to")
	require.Contains(t, e.Text, "permission denied")
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}
