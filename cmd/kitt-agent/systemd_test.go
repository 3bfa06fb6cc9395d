package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A systemdMachine is a container that a real systemd runs, with kitt-agent, a
// program that plays kitt, and a user kitt who may use sudo.
type systemdMachine struct {
	t    *testing.T
	name string
}

// newSystemdMachine starts one whose agent is to work for server.
func newSystemdMachine(t *testing.T, server string) *systemdMachine {
	t.Helper()
	if os.Getenv("KITT_TEST_SYSTEMD") != "1" {
		t.Skip("KITT_TEST_SYSTEMD=1 runs this with a real systemd; the first time makes an image, for which it needs root, Docker, debootstrap and a Debian mirror")
	}
	m := &systemdMachine{t, fmt.Sprintf("kitt-systemd-test-%d", os.Getpid())}
	t.Cleanup(func() { m.script("remove") })
	m.script("start")
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "kitt-agent"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // for its libc may be older than ours
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, err = runnertest.BuildFakeKitt(dir)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	config := fmt.Sprintf("name: service\nserver_url: %s\ntoken: service-token-0123456789\nport: %d\nlisten: 127.0.0.1\nrunner: process\nheartbeat_interval_s: 10\ndrain_timeout: 2s\n", server, port)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte(config), 0o600))
	for _, file := range []string{"kitt-agent", "kitt"} {
		m.host("docker", "cp", filepath.Join(dir, file), m.name+":/usr/local/bin/"+file)
	}
	m.root("useradd", "--create-home", "--shell", "/bin/bash", "kitt")
	m.root("sh", "-c", "echo 'kitt ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/kitt")
	m.user("mkdir", "/home/kitt/.kitt")
	m.host("docker", "cp", filepath.Join(dir, "agent.yaml"), m.name+":/home/kitt/.kitt/agent.yaml")
	m.root("chown", "kitt:kitt", "/home/kitt/.kitt/agent.yaml")
	return m
}

func (m *systemdMachine) script(verb string) {
	m.t.Helper()
	m.host(filepath.Join("..", "..", "scripts", "systemd-machine.sh"), verb, m.name)
}

// host runs a program on the machine of the test.
func (m *systemdMachine) host(argv ...string) string {
	m.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	require.NoError(m.t, err, "%q: %s", argv, out)
	return string(out)
}

// root and user run a program inside that must succeed, and return what it says.
func (m *systemdMachine) root(argv ...string) string {
	m.t.Helper()
	return m.host(append([]string{"docker", "exec", m.name}, argv...)...)
}

func (m *systemdMachine) user(argv ...string) string {
	m.t.Helper()
	out, code := m.try(argv...)
	require.Zero(m.t, code, "%q: %s", argv, out)
	return out
}

// try runs a program inside as kitt and returns what it says and its exit code.
func (m *systemdMachine) try(argv ...string) (string, int) {
	m.t.Helper()
	cmd := exec.Command("docker", append([]string{"exec", "--user", "kitt", "--workdir", "/home/kitt", "--env", "HOME=/home/kitt",
		"--env", "XDG_RUNTIME_DIR=/run/user/1000", m.name}, argv...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(m.t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// status returns what `service status --json` says.
func (m *systemdMachine) status() (report serviceReport, code int) {
	m.t.Helper()
	out, code := m.try("kitt-agent", "service", "status", "--json")
	// Beside the object there is what went to standard error.
	require.NoError(m.t, json.NewDecoder(strings.NewReader(out[max(strings.Index(out, "{"), 0):])).Decode(&report), out)
	return report, code
}

// awaitOther waits until the service runs as another process than pid.
func (m *systemdMachine) awaitOther(pid int) (now serviceReport) {
	m.t.Helper()
	m.await("the service comes back", func() bool {
		var code int
		now, code = m.status()
		return code == exitOK && now.Active == "active" && now.PID != 0 && now.PID != pid
	})
	return now
}

// await waits until done, which may end the test, unlike require.Eventually's.
func (m *systemdMachine) await(what string, done func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); pause(250 * time.Millisecond) {
		require.True(m.t, time.Now().Before(end), "never: %s\n%s", what, m.journal())
	}
}

func (m *systemdMachine) journal() string {
	return m.root("journalctl", "--unit=kitt-agent", "--no-pager", "--output=short")
}

// TestSystemdService installs the service in a real systemd and takes it through
// its life: a server that is away, kill -9 and restarts in the middle of a
// benchmark, a wedge, a boot, its removal.
func TestSystemdService(t *testing.T) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("service")
	var away atomic.Bool
	away.Store(true)
	server.SetFault(func(*http.Request) kittapitest.Fault { return kittapitest.Fault{Reset: away.Load()} })
	m := newSystemdMachine(t, server.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	report, code := m.status()
	require.Equal(t, exitNotRunning, code)
	require.False(t, report.Installed)
	m.root("sh", "-c", "kitt-agent service install --run-as kitt --print >/tmp/kitt-agent.service && systemd-analyze verify --man=no /tmp/kitt-agent.service")

	// Without a server, without Docker, by sudo.
	t.Log(m.user("kitt-agent", "service", "install"))
	report, code = m.status()
	require.Equal(t, exitOK, code)
	require.Equal(t, "active", report.Active)
	require.Equal(t, "enabled", report.Enabled)
	require.False(t, report.NeedReload)
	first := report.PID
	m.user("kitt-agent", "service", "install")
	report, _ = m.status()
	require.Equal(t, first, report.PID, "a second install leaves it running")
	proc := fmt.Sprintf("/proc/%d", first)
	require.Contains(t, m.root("cat", proc+"/status"), "NoNewPrivs:\t0", "sudo mount works")
	require.Equal(t, m.root("readlink", "/proc/1/ns/mnt"), m.root("readlink", proc+"/ns/mnt"), "Docker sees what the agent mounts")
	require.Regexp(t, `(?m)^.* kitt-agent\[\d+\]: agent started version=`, m.journal())
	require.Contains(t, m.root("journalctl", "--unit=kitt-agent", "--priority=warning", "--output=cat", "--no-pager"), "server not reached")

	// The server comes, and a benchmark, which kill -9 does not touch.
	away.Store(false)
	require.NoError(t, server.WaitForAgent(ctx, "service"))
	const lines = 600
	id, _, err := server.Launch("service", fmt.Sprintf("fake:lines.%d_delay.100ms", lines))
	require.NoError(t, err)
	require.NoError(t, waitForLines(ctx, server, id, 20), m.journal())
	benchmark := m.root("pgrep", "--exact", "kitt")
	m.root("kill", "-9", fmt.Sprint(first))
	report = m.awaitOther(first)
	require.Equal(t, 1, report.Restarts)
	require.Equal(t, benchmark, m.root("pgrep", "--exact", "kitt"), "the same process")

	// Nor does a restart, nor a stop and a start.
	m.root("systemctl", "restart", "kitt-agent")
	report = m.awaitOther(report.PID)
	require.Equal(t, benchmark, m.root("pgrep", "--exact", "kitt"))
	m.user("kitt-agent", "stop")
	m.await("a stop is no failure", func() bool {
		report, code = m.status()
		return code == exitNotRunning && report.Active == "inactive"
	})
	require.Equal(t, benchmark, m.root("pgrep", "--exact", "kitt"))
	m.user("kitt-agent", "service", "install")
	report, code = m.status()
	require.Equal(t, exitOK, code)
	require.NoError(t, waitForLines(ctx, server, id, 250), m.journal())
	// systemd sees what is left of the run before, says so, and goes on.
	require.Regexp(t, "remains running after unit stopped", m.journal())
	require.Regexp(t, "Found left-over process", m.journal())

	// What harms a job is not done while one runs.
	out, code := m.try("kitt-agent", "service", "install", "--config", "/home/kitt/.kitt/agent.yaml")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "can take the GPUs away")
	out, code = m.try("kitt-agent", "service", "uninstall")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "nothing was done")
	after, code := m.status()
	require.Equal(t, exitOK, code)
	require.Equal(t, report.PID, after.PID)
	require.True(t, after.NeedReload)

	require.NoError(t, server.WaitForEnd(ctx, id), m.journal())
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	got := numbersOf(server.Lines(id))
	require.Len(t, got, lines, strings.Join(server.Lines(id), "\n"))
	for i, n := range got {
		require.Equal(t, i, n)
	}
	require.Len(t, server.Results(), 1)
	t.Log(m.user("kitt-agent", "service", "install", "--wait", "--config", "/home/kitt/.kitt/agent.yaml"))
	report = m.awaitOther(report.PID)
	require.False(t, report.NeedReload)
	t.Log(m.user("kitt-agent", "service", "status"))
	t.Log(m.user("kitt-agent", "service", "logs", "--lines", "5"))

	// A process that stands still is ended by the watchdog.
	m.root("sh", "-c", "mkdir -p /run/systemd/system/kitt-agent.service.d && printf '[Service]\\nWatchdogSec=3s\\nRestartSec=1s\\n' >/run/systemd/system/kitt-agent.service.d/test.conf && systemctl daemon-reload && systemctl restart kitt-agent")
	report = m.awaitOther(report.PID)
	m.root("kill", "-STOP", fmt.Sprint(report.PID))
	report = m.awaitOther(report.PID)
	require.Contains(t, m.journal(), "Watchdog timeout")

	// It starts at boot, and its files are where they were.
	m.script("boot")
	report = m.awaitOther(0)
	require.Zero(t, report.Restarts)
	require.NoError(t, server.WaitForAgent(ctx, "service"))

	t.Log(m.user("kitt-agent", "service", "uninstall"))
	report, code = m.status()
	require.Equal(t, exitNotRunning, code)
	require.False(t, report.Installed)
	require.Equal(t, "", strings.TrimSpace(m.root("sh", "-c", "pgrep --list-full kitt || true; find / -xdev -name 'kitt-agent.service*' -not -path '/proc/*'")))
	m.user("test", "-f", "/home/kitt/.kitt/agent.yaml")
	require.Contains(t, m.user("kitt-agent", "service", "uninstall"), "not installed")
}

// TestSystemdServiceOfAUser installs the service in a user's own systemd.
func TestSystemdServiceOfAUser(t *testing.T) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("service")
	m := newSystemdMachine(t, server.URL)
	out, code := m.try("kitt-agent", "service", "install", "--user")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "enable-linger kitt")
	m.root("loginctl", "enable-linger", "kitt")
	m.await("the user's own systemd is up", func() bool {
		_, code := m.try("systemctl", "--user", "show", "default.target")
		return code == 0
	})
	require.NotContains(t, m.user("kitt-agent", "service", "install", "--user"), "enable-linger")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "service"))
	require.Contains(t, m.user("kitt-agent", "service", "status", "--user"), "active (running)")
	m.user("kitt-agent", "service", "uninstall", "--user")
	out, code = m.try("kitt-agent", "service", "status", "--user")
	require.Equal(t, exitNotRunning, code)
	require.Contains(t, out, "not installed")
}
