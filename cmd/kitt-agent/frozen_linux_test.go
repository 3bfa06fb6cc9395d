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
	"github.com/kirizan/kitt-agent/internal/base/basetest"
)

// TestCommandsAnswerWhileTheDiskHangs freezes the disk with the agent's whole state while
// a benchmark runs. Every command that an operator needs then answers, the server gets
// heartbeats though one of them brings a command, and when the disk is back both jobs
// end.
func TestCommandsAnswerWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	disk, err := basetest.Freezable(t.TempDir())
	if err != nil {
		t.Skipf("no file system of its own for the test: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, disk.Close()) })
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	server.AddAgent("chaos")
	d := newDaemon(t, buildProgram(t), server.URL, "process", "disk_warning: 0")
	config, err := os.ReadFile(filepath.Join(d.home, "agent.yaml"))
	require.NoError(t, err)
	d.home = disk.Path
	require.NoError(t, os.WriteFile(filepath.Join(d.home, "agent.yaml"), config, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	first, _, err := server.Launch("chaos", "fake:lines.3_hang")
	require.NoError(t, err)
	d.start()
	require.NoError(t, waitForLines(ctx, server, first, 3), tail(d))
	require.NoError(t, disk.Freeze())
	t.Cleanup(func() { _ = disk.Thaw() }) // before the agent is ended
	second, _, err := server.Launch("chaos", "fake:lines.5")
	require.NoError(t, err)

	run := func(line string) {
		t.Helper()
		limited, cancel := context.WithTimeout(ctx, 90*time.Second) // a cancel waits for a clean-up
		defer cancel()
		cmd := exec.CommandContext(limited, d.prog.path, strings.Fields(line)...)
		cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		require.NoError(t, limited.Err(), "%s does not answer: %s\n%s", line, out, tail(d))
		require.NotEmpty(t, out, line)
		t.Logf("%s: %v", line, err)
	}
	run("heartbeat") // takes the second command
	beats := server.Beats("chaos")
	for _, line := range []string{
		"status", "status --json", "health", "test list", "logs --tail 2 " + first, "models list", "hardware",
		"policy show", "certs show", "version", "service status", "preflight", "update --check", "heartbeat",
		"test stop " + first,
	} {
		run(line)
	}
	require.Greater(t, server.Beats("chaos"), beats)
	require.NoError(t, disk.Thaw())
	require.NoError(t, server.WaitForEnd(ctx, first), tail(d))
	require.NoError(t, server.WaitForEnd(ctx, second), tail(d))
	row, _ := server.Test(second)
	require.Equal(t, "completed", row.Status, row.Error)
	d.stop()
}
