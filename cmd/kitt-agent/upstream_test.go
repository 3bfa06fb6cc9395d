package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
)

// upstream runs `kitt agent` as KITT 1.7.0 has it, which finds kitt-agent in PATH and
// replaces itself by it.
type upstream struct {
	t      *testing.T
	python string
	env    []string
}

// newUpstream skips the test where Python lacks what that part of KITT imports. With
// KITT_TEST_UPSTREAM=1 it fails instead.
func newUpstream(t *testing.T, env ...string) *upstream {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import click, rich, yaml").Run() == nil {
			return &upstream{t: t, python: python, env: env}
		}
	}
	require.NotEqual(t, "1", os.Getenv("KITT_TEST_UPSTREAM"), "no python3 with click, rich and yaml")
	t.Skip("SKIPPED for want of python3 with click, rich and yaml (Debian: python3-click python3-rich python3-yaml)")
	return nil
}

// command returns `kitt agent` with these arguments.
func (u *upstream) command(out io.Writer, args ...string) *exec.Cmd {
	run := []string{"-c", "import agent_commands; agent_commands.agent(prog_name='kitt agent')"}
	cmd := exec.Command(u.python, append(run, args...)...)
	cmd.Dir = "testdata/upstream"
	cmd.Env = append(append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "COLUMNS=200"), u.env...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// run runs one of its commands to its end, and returns its status and what it printed.
func (u *upstream) run(args ...string) (int, string) {
	u.t.Helper()
	var out basetest.Buffer
	cmd := u.command(&out, args...)
	_ = cmd.Run() // its status says it
	require.NotContains(u.t, out.String(), "Traceback")
	return cmd.ProcessState.ExitCode(), out.String()
}

// `kitt agent init|start|status|update|stop` of KITT run this program, with its flags,
// its agent.yaml and its PID file.
func TestUpstreamsCommandsRunThisProgram(t *testing.T) {
	t.Parallel()
	home, prog := t.TempDir(), buildProgram(t)
	u := newUpstream(t, "HOME="+home, "KITT_HOME=", "PATH="+filepath.Dir(prog.path)+":"+prog.bin+":"+os.Getenv("PATH"))
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	require.NoError(t, listener.Close())

	status, out := u.run("status")
	require.Zero(t, status)
	require.Contains(t, out, "Agent not configured")
	status, out = u.run("init", "--server", server.URL, "--name", "upstream", "--token", "a-token-of-its-own", "--port", port)
	require.Zero(t, status, out)
	status, out = u.run("status")
	require.Zero(t, status)
	require.Contains(t, out, "Name: upstream")
	require.Contains(t, out, "Running: no")

	var log basetest.Buffer
	agent := u.command(&log, "start", "--config", filepath.Join(home, ".kitt", "agent.yaml"))
	agent.WaitDelay = time.Second
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "upstream"), log.String())
	status, out = u.run("status")
	require.Zero(t, status)
	require.Contains(t, out, "Running: yes")
	require.Contains(t, out, "Active containers: 0")

	// The double has no package of this program: a sentence says so.
	status, out = u.run("update", "--restart")
	require.NotZero(t, status)
	require.Contains(t, out, "kitt-agent: ")
	require.NotContains(t, out, "usage:", "it takes the flags")

	pid, err := os.ReadFile(filepath.Join(home, ".kitt", "agent.pid"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(agent.Process.Pid), strings.TrimSpace(string(pid)), "it became this program")
	status, out = u.run("stop")
	require.Zero(t, status)
	require.Contains(t, out, "Agent stopped (PID "+strconv.Itoa(agent.Process.Pid)+")")
	require.NoError(t, agent.Wait(), log.String())
	require.NotContains(t, log.String(), "Traceback")
	status, out = u.run("stop")
	require.Zero(t, status)
	require.Contains(t, out, "No PID file found")
}
