package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// privateEngine starts an engine of the test's own, with the image kitt:latest.
func privateEngine(t testing.TB, prog program, options ...string) *dockertest.Private {
	t.Helper()
	// Not t.TempDir, whose name is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "kitt-engine")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p, err := dockertest.StartPrivate(t.Context(), dir, options...)
	if err != nil {
		t.Skipf("SKIPPED because no Docker engine of our own can be started: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.NoError(t, p.Build(t.Context(), "kitt:latest", filepath.Join(prog.bin, "kitt"), ""))
	return p
}

// TestJobsWaitForTheEngine starts the agent before the engine, as a boot may, with 14
// jobs, kills the engine again among them, and kills the agent while the jobs wait. The
// local kitt, which is there, runs none of them.
func TestJobsWaitForTheEngine(t *testing.T) {
	t.Parallel()
	prog := buildProgram(t)
	p := privateEngine(t, prog, "--live-restore")
	require.NoError(t, p.Kill())
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	d := newDaemon(t, prog, server.URL, "auto")
	d.env = []string{"DOCKER_HOST=" + p.Host}
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	var ids []string
	for range 14 {
		id, _, err := server.Launch("chaos", "fake:lines.20_delay.5ms")
		require.NoError(t, err)
		ids = append(ids, id)
	}
	waitFor(t, ctx, "the first job waits", func() bool { return says(server.Lines(ids[0]), "Waiting to start") })
	require.Contains(t, d.status(), "does not answer")
	d.kill()
	d.start()
	waitFor(t, ctx, "the first job waits again", func() bool {
		return strings.Contains(d.status(), `"waiting_for"`)
	})

	require.NoError(t, p.Start(ctx))
	require.NoError(t, server.WaitForEnd(ctx, ids[3]), tail(d))
	require.NoError(t, p.Kill())
	pause(5 * time.Second)
	require.NoError(t, p.Start(ctx))
	for _, id := range ids {
		require.NoError(t, server.WaitForEnd(ctx, id), tail(d))
		row, _ := server.Test(id)
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
		require.Len(t, numbersOf(server.Lines(id)), 20, strings.Join(server.Lines(id), "\n"))
		require.True(t, says(server.Lines(id), "running in a container"))
		require.False(t, says(server.Lines(id), "kitt on this machine"), "%q", server.Lines(id))
	}
	d.stop()
}

// status returns what `kitt-agent status --json` prints.
func (d *daemon) status() string {
	cmd := exec.Command(d.prog.path, "status", "--json")
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
	text, _ := cmd.Output() // its exit status says how the agent is
	return string(text)
}

// says reports whether one of the lines holds text.
func says(lines []string, text string) bool {
	for _, line := range lines {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// TestTestStopWithoutTheEngine stops a test whose engine was killed and stays away: its
// container's processes are gone, and so is the container once the engine is back.
func TestTestStopWithoutTheEngine(t *testing.T) {
	t.Parallel()
	prog := buildProgram(t)
	p := privateEngine(t, prog, "--live-restore")
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	d := newDaemon(t, prog, server.URL, "docker")
	d.env = []string{"DOCKER_HOST=" + p.Host}
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	id, _, err := server.Launch("chaos", "fake:lines.3_hang_ignore-term")
	require.NoError(t, err)
	require.NoError(t, waitForLines(ctx, server, id, 3), tail(d))
	require.NoError(t, p.Kill())
	cmd := exec.CommandContext(ctx, prog.path, "test", "stop", id)
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", text, tail(d))
	require.Contains(t, string(text), "The agent has stopped it.")
	row, _ := server.Test(id)
	require.Equal(t, "Cancelled by user", row.Error)
	waitFor(t, ctx, "the log says how it was ended", func() bool {
		return says(server.Lines(id), "was ended without the Docker engine")
	})
	require.Empty(t, commandsWith(t, d.home), "nothing of the container lives")
	require.NoError(t, p.Start(ctx))
	d.stop()
}

// commandsWith returns the command lines of supervisors whose run's directory is below
// dir, which is what they have in their containers, too.
func commandsWith(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if line := strings.ReplaceAll(string(text), "\x00", " "); err == nil && strings.Contains(line, "-dir "+dir) {
			found = append(found, line)
		}
	}
	return found
}
