package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startStandIn starts a process that stands in for the machine's agent.
func (m *machine) startStandIn(kind string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), standInEnv+"="+m.home, standInKinds+"="+kind)
	out, err := cmd.StdoutPipe()
	require.NoError(m.t, err)
	require.NoError(m.t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(m.t, err)
	m.write(fmt.Sprintf("name: gpu-1\ntoken: secret\nport: %s\n", strings.TrimSpace(line)))
	return cmd
}

func TestStop(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	agent := m.startStandIn("")
	got := m.run("stop")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, fmt.Sprintf("kitt-agent (process %d) has stopped\n", agent.Process.Pid), got.out)
	require.NoError(t, agent.Wait())
	require.NoFileExists(t, filepath.Join(m.home, "asked"))
	require.NoFileExists(t, filepath.Join(m.home, "agent.pid"))

	got = m.run("stop")
	require.Equal(t, exitOK, got.code)
	require.Equal(t, "kitt-agent is not running\n", got.out)
}

func TestStopModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cancel", "drain"} {
		m := newMachine(t)
		agent := m.startStandIn("")
		got := m.run("stop", "--"+mode, "--json")
		require.Equal(t, exitOK, got.code, got.err)
		var report stopReport
		require.NoError(t, json.Unmarshal([]byte(got.out), &report))
		require.True(t, report.Stopped)
		require.Equal(t, agent.Process.Pid, report.PID)
		require.NoError(t, agent.Wait())
		asked, err := os.ReadFile(filepath.Join(m.home, "asked"))
		require.NoError(t, err)
		require.JSONEq(t, `{"mode":"`+mode+`"}`, string(asked))
	}
}

// An agent that can't be asked to cancel isn't stopped in another way.
func TestStopThatIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	agent := m.startStandIn("")
	m.vars["KITT_TOKEN"] = "other"
	got := m.run("stop", "--cancel")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "could not be asked to cancel")
	require.Contains(t, got.err, "another token than agent.yaml")
	require.NoError(t, agent.Process.Signal(os.Interrupt))
	_ = agent.Wait()
}

func TestStopTimeout(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	agent := m.startStandIn("stubborn")
	began := time.Now()
	got := m.run("stop", "--timeout", "200ms")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, fmt.Sprintf("kill -9 %d", agent.Process.Pid))
	require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	require.NoError(t, agent.Process.Kill())
	_ = agent.Wait()
	require.Equal(t, "kitt-agent is not running\n", m.run("stop").out, "the file that is left behind is no obstacle")
}

// The process id in a stale file may be anybody's by now.
func TestStopSparesStrangers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	require.NoError(t, os.WriteFile(filepath.Join(m.home, "agent.pid"), []byte(fmt.Sprint(os.Getpid())), 0o600))
	require.Equal(t, "kitt-agent is not running\n", m.run("stop").out)
}
