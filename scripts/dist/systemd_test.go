package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A machine is a container that a real systemd runs.
type machine struct {
	t    *testing.T
	name string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t, fmt.Sprintf("kitt-package-test-%d", os.Getpid())}
	script := filepath.Join("scripts", "systemd-machine.sh")
	t.Cleanup(func() { said(t, script, "remove", m.name) })
	said(t, script, "start", m.name)
	return m
}

// root runs a command of the shell that must succeed, and returns what it says.
func (m *machine) root(command string) string {
	m.t.Helper()
	return said(m.t, "docker", "exec", m.name, "sh", "-c", command)
}

func (m *machine) copy(from, to string) {
	m.t.Helper()
	said(m.t, "docker", "cp", from, m.name+":"+to)
}

// pid returns the process of the service, 0 if it doesn't run.
func (m *machine) pid() string {
	m.t.Helper()
	return strings.TrimSpace(m.root("systemctl show --property=MainPID --value kitt-agent"))
}

// TestSystemdPackages installs the deb in a real systemd, upgrades it while a
// benchmark runs, removes it while that runs on, and purges it.
func TestSystemdPackages(t *testing.T) {
	if os.Getenv("KITT_TEST_SYSTEMD") != "1" {
		t.Skip("SKIPPED because it needs what KITT_TEST_SYSTEMD=1 promises: root, Docker, debootstrap and a Debian mirror")
	}
	r := newRelease(t, "v1.0.0")
	first, _ := r.packages(t, "v1.0.0")
	second, _ := r.packages(t, "v1.1.0")
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("packaged")
	m := newMachine(t)
	dir := t.TempDir()
	_, err = runnertest.BuildFakeKitt(dir)
	require.NoError(t, err)
	m.copy(filepath.Join(dir, "kitt"), "/usr/local/bin/kitt")
	m.copy(first, "/root/first.deb")
	m.copy(second, "/root/second.deb")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	// Installed: not enabled, and without settings a start does nothing.
	t.Log(m.root("dpkg --install /root/first.deb"))
	require.Equal(t, "disabled", strings.TrimSpace(m.root("systemctl is-enabled kitt-agent || true")))
	m.root("systemctl start kitt-agent")
	require.Equal(t, "0", m.pid())
	require.Equal(t, "700 kitt-agent\n", m.root("stat --format='%a %U' /var/lib/kitt-agent"))

	m.root("sudo -u kitt-agent mkdir /var/lib/kitt-agent/.kitt")
	settings := filepath.Join(dir, "agent.yaml")
	require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil,
		"name: packaged\nserver_url: %s\ntoken: service-token-0123456789\nport: %d\nlisten: 127.0.0.1\nrunner: process\nheartbeat_interval_s: 10\ndrain_timeout: 2s\n",
		server.URL, freePort(t)), 0o600))
	m.copy(settings, "/var/lib/kitt-agent/.kitt/agent.yaml")
	m.root("chown kitt-agent /var/lib/kitt-agent/.kitt/agent.yaml; systemctl enable --now kitt-agent")
	require.NoError(t, server.WaitForAgent(ctx, "packaged"))
	const lines = 300
	id, _, err := server.Launch("packaged", fmt.Sprintf("fake:lines.%d_delay.100ms", lines))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(server.Lines(id)) > 20 }, time.Minute, 100*time.Millisecond)
	benchmark, before := m.root("pgrep --exact kitt"), m.pid()
	require.NotEqual(t, "0", before)

	// Upgraded: another agent, the same benchmark.
	t.Log(m.root("dpkg --install /root/second.deb"))
	require.NotContains(t, []string{"0", before}, m.pid())
	require.Equal(t, benchmark, m.root("pgrep --exact kitt"))

	// Removed: neither running nor enabled, and nothing tries again.
	t.Log(m.root("dpkg --remove kitt-agent"))
	require.Equal(t, "0", m.pid())
	require.NotContains(t, m.root("find /etc/systemd"), "kitt-agent")
	require.NotEqual(t, "activating", strings.TrimSpace(m.root("systemctl is-active kitt-agent || true")))
	require.Equal(t, benchmark, m.root("pgrep --exact kitt"))

	// Installed again, the agent goes on with the benchmark.
	m.root("dpkg --install /root/second.deb && systemctl enable --now kitt-agent")
	require.NoError(t, server.WaitForEnd(ctx, id))
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	log := strings.Join(server.Lines(id), "\n")
	for n := range lines {
		require.Equal(t, 1, strings.Count(log+"\n", fmt.Sprintf("line %d\n", n)), "line %d:\n%s", n, log)
	}

	// The unit that service install writes in place of the package's goes, too.
	t.Log(m.root("KITT_HOME=/var/lib/kitt-agent/.kitt kitt-agent service install --run-as kitt-agent"))
	require.Contains(t, m.root("find /etc/systemd"), "/etc/systemd/system/kitt-agent.service\n")
	require.NotEqual(t, "0", m.pid())
	t.Log(m.root("dpkg --purge kitt-agent"))
	require.Equal(t, "0", m.pid())
	require.NotContains(t, m.root("find /etc /usr /var/lib/kitt-agent 2>/dev/null || true"), "kitt-agent")
	require.Empty(t, strings.TrimSpace(m.root("systemctl --failed --plain --no-legend")))
}

// freePort returns a port that nothing listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
