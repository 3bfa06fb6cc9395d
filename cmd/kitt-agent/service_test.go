package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
)

// nobody is the user and group that the program runs as in tests of what it
// does without root.
const nobody = 65534

// A fakeSystemd is a systemctl and a sudo that note how they were called, and an
// account to call them from. The real program is run, never as root.
type fakeSystemd struct {
	t    *testing.T
	prog program
	dir  string
	home string
}

// Answers of systemctl show.
const (
	unitLoaded  = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nNeedDaemonReload=no\n"
	unitChanged = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nNeedDaemonReload=yes\n"
	unitRunning = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\nMainPID=411\nNRestarts=2\nMemoryCurrent=5242880\nStatusText=idle; registered\nResult=success\n"
	unitMissing = "LoadState=not-found\nActiveState=inactive\nSubState=dead\n"
)

func newFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	dir, err := os.MkdirTemp("", "service") // t.TempDir is closed to others
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	f := &fakeSystemd{t: t, prog: buildProgram(t), dir: dir, home: filepath.Join(dir, "home")}
	require.NoError(t, os.MkdirAll(filepath.Join(f.home, ".kitt"), 0o755))
	for _, name := range []string{"bin", "calls"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	program, err := os.ReadFile(f.prog.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bin", "kitt-agent"), program, 0o755))
	f.program("systemctl", fmt.Sprintf("echo systemctl \"$*\" >>%[1]s/calls/log\ncase \" $* \" in\n"+
		"*\" show \"*) cat %[1]s/calls/state ;;\n"+
		"*\" start \"*) cp %[1]s/calls/running %[1]s/calls/state ;;\nesac\n", dir))
	f.program("sudo", fmt.Sprintf("echo sudo \"$*\" >>%[1]s/calls/log\nwhile [ \"$1\" != -- ]; do shift; done; shift\n"+
		"[ \"$1\" != systemctl ] || exec \"$@\"\n", dir))
	f.write("calls/running", unitRunning)
	f.write("calls/log", "")
	f.state(unitLoaded)
	f.write("home/.kitt/agent.yaml", "name: gpu-1\nserver_url: http://127.0.0.1:1\nport: 1\n")
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error { return os.Chown(path, nobody, nobody) }))
	}
	return f
}

func (f *fakeSystemd) program(name, script string) {
	f.t.Helper()
	f.write(filepath.Join("bin", name), "#!/bin/sh\n"+script)
	require.NoError(f.t, os.Chmod(filepath.Join(f.dir, "bin", name), 0o755))
}

func (f *fakeSystemd) write(path, text string) {
	f.t.Helper()
	path = filepath.Join(f.dir, path)
	require.NoError(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(f.t, os.WriteFile(path, []byte(text), 0o666))
	require.NoError(f.t, os.Chmod(path, 0o666))
}

// state sets what systemctl show answers.
func (f *fakeSystemd) state(text string) {
	f.t.Helper()
	f.write("calls/state", text)
}

// run runs kitt-agent without root, and returns what it did and the commands
// that it called, without the questions.
func (f *fakeSystemd) run(args ...string) (outcome, []string) {
	f.t.Helper()
	f.write("calls/log", "")
	cmd := exec.CommandContext(f.t.Context(), filepath.Join(f.dir, "bin", "kitt-agent"), args...)
	cmd.Env = []string{"HOME=" + f.home, "PATH=" + filepath.Join(f.dir, "bin") + ":/usr/bin:/bin", "TMPDIR=" + f.dir,
		"KITT_HOME=" + filepath.Join(f.home, ".kitt"), "XDG_CONFIG_HOME=" + filepath.Join(f.home, "config")}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		require.NoError(f.t, err)
	}
	log, err := os.ReadFile(filepath.Join(f.dir, "calls", "log"))
	require.NoError(f.t, err)
	var calls []string
	for line := range strings.Lines(string(log)) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, " show ") {
			calls = append(calls, line)
		}
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}, calls
}

func TestServiceInstallGoesThroughSudo(t *testing.T) {
	f := newFakeSystemd(t)
	got, calls := f.run("service", "install")
	require.Equal(t, exitOK, got.code, got.err)
	require.Len(t, calls, 6, "%q", calls)
	require.Regexp(t, `^sudo -n -- install -D -m 0644 -- \S+/kitt-agent.service /etc/systemd/system/kitt-agent.service.new$`, calls[0])
	require.Equal(t, []string{
		"sudo -n -- mv -f -T -- /etc/systemd/system/kitt-agent.service.new /etc/systemd/system/kitt-agent.service",
		"sudo -n -- systemctl enable --no-reload --quiet kitt-agent.service",
		"systemctl enable --no-reload --quiet kitt-agent.service",
		"sudo -n -- systemctl start kitt-agent.service",
		"systemctl start kitt-agent.service",
	}, calls[1:], "systemd is not made to read all its files anew")
	require.Contains(t, got.out, "kitt-agent.service is installed and starts at boot: it runs as ")
	require.Contains(t, got.out, "it is running (process 411): idle; registered")

	f.program("sudo", "echo 'sudo: a password is required' >&2; exit 1\n")
	f.state(unitLoaded)
	got, _ = f.run("service", "install")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "sudo: a password is required")
	require.Contains(t, got.err, "--user")
}

func TestServiceReloadsOnlyWhileNoJobRuns(t *testing.T) {
	f := newFakeSystemd(t)
	const reload = "systemctl daemon-reload"
	f.write("home/.kitt/jobs/1111/job.json", `{"version":1,"state":"running"}`)
	f.state(unitChanged)
	got, calls := f.run("service", "install")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "job runs: 1111; the unit file is written, but systemd does not know of it yet")
	require.Contains(t, got.err, "can take the GPUs away")
	require.Contains(t, got.err, "--wait")
	require.NotContains(t, calls, reload)

	got, calls = f.run("service", "install", "--force")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, "warning: job runs: 1111")
	require.Contains(t, calls, reload)

	f.state(unitChanged)
	end := time.AfterFunc(100*time.Millisecond, func() { f.write("home/.kitt/jobs/1111/job.json", `{"version":1,"state":"completed"}`) })
	defer end.Stop()
	got, calls = f.run("service", "install", "--wait")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, calls, reload)
}

func TestServiceOfAUser(t *testing.T) {
	f := newFakeSystemd(t)
	path := filepath.Join(f.home, "config", "systemd", "user", "kitt-agent.service")
	got, calls := f.run("service", "install", "--user")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, []string{
		"systemctl --user enable --no-reload --quiet kitt-agent.service",
		"systemctl --user start kitt-agent.service",
	}, calls)
	require.Contains(t, got.out, "starts at login")
	require.Contains(t, got.err, "loginctl enable-linger")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, systemd.Check(string(text)))
	require.NotContains(t, string(text), "User=")
	require.Contains(t, string(text), "WantedBy=default.target")

	got, calls = f.run("service", "install", "--user")
	require.Equal(t, exitOK, got.code, got.err)
	require.Empty(t, calls, "a second install finds nothing to do")

	edited := strings.Replace(string(text), "RestartSec=10s", "RestartSec=1s", 1)
	require.NoError(t, os.WriteFile(path, []byte(edited), 0o644))
	got, calls = f.run("service", "install", "--user")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "changed by hand")
	require.Contains(t, got.err, "systemctl edit")
	require.Empty(t, calls)
	got, calls = f.run("service", "install", "--user", "--force")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, []string{"systemctl --user restart kitt-agent.service"}, calls)

	f.write("home/.kitt/jobs/1111/job.json", `{"version":1,"state":"running"}`)
	got, calls = f.run("service", "uninstall", "--user")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "job runs: 1111; nothing was done")
	require.Empty(t, calls)
	require.FileExists(t, path)

	f.write("home/.kitt/jobs/1111/job.json", `{"version":1,"state":"completed"}`)
	got, calls = f.run("service", "uninstall", "--user")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, []string{
		"systemctl --user stop kitt-agent.service",
		"systemctl --user disable --no-reload --quiet kitt-agent.service",
		"systemctl --user daemon-reload",
	}, calls)
	require.NoFileExists(t, path)
	require.Contains(t, got.out, "settings, jobs and logs are still in "+f.home)

	f.state(unitMissing)
	got, calls = f.run("service", "uninstall", "--user")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "is not installed")
	require.Empty(t, calls)
}

func TestServiceLeavesAForeignUnitAlone(t *testing.T) {
	f := newFakeSystemd(t)
	path := filepath.Join(f.home, "config", "systemd", "user", "kitt-agent.service")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("[Unit]\nDescription=KITT Agent Daemon\n"), 0o644))
	for _, command := range []string{"install", "uninstall"} {
		got, calls := f.run("service", command, "--user")
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "kitt-agent did not write it")
		require.Contains(t, got.err, "--force")
		require.Empty(t, calls)
	}
}

func TestServiceInstallSaysWhatIsMissing(t *testing.T) {
	f := newFakeSystemd(t)
	f.write("home/.kitt/agent.yaml", "name: gpu-1\n")
	got, calls := f.run("service", "install")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "try: kitt-agent init")
	require.Empty(t, calls)
}

func TestServiceStatus(t *testing.T) {
	f := newFakeSystemd(t)
	f.state(unitRunning)
	got, _ := f.run("service", "status")
	require.Equal(t, exitOK, got.code, got.err)
	for _, want := range []string{"active (running)", "enabled", "411", "2, by systemd", "5 MiB", "idle; registered"} {
		require.Contains(t, got.out, want)
	}
	f.state(unitLoaded)
	got, _ = f.run("service", "status", "--json")
	require.Equal(t, exitNotRunning, got.code)
	require.Contains(t, got.out, `"running": false`)
	require.Contains(t, got.out, `"installed": true`)
	f.state(unitMissing)
	got, _ = f.run("service", "status")
	require.Equal(t, exitNotRunning, got.code)
	require.Contains(t, got.err, "try: kitt-agent service install")
}

func TestServiceLogs(t *testing.T) {
	f := newFakeSystemd(t)
	f.program("journalctl", "echo \"$*\"\n")
	got, _ := f.run("service", "logs", "--follow", "--lines", "7")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, "--unit=kitt-agent.service --lines=7 --follow\n", got.out)
	got, _ = f.run("service", "logs", "--user")
	require.Equal(t, "--user --user-unit=kitt-agent.service --lines=100\n", got.out)

	f.program("systemctl", "exit 1\n")
	f.write("home/.kitt/logs/agent.log", "one\ntwo\nthree\n")
	got, _ = f.run("service", "logs", "--lines", "2")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, "two\nthree\n", got.out)
	got, _ = f.run("service", "logs", "--follow")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "tail -F "+f.home)
}

func TestServicePrint(t *testing.T) {
	m := newMachine(t)
	self, err := user.Current()
	require.NoError(t, err)
	m.vars["HOME"] = self.HomeDir
	m.vars["KITT_TOKEN"] = "hidden"
	got := m.run("service", "install", "--print", "--config", "agent.yaml")
	require.Equal(t, exitOK, got.code, got.err)
	require.NoError(t, systemd.Check(got.out))
	service := systemd.Read(got.out)
	here, err := filepath.Abs("agent.yaml")
	require.NoError(t, err)
	require.Equal(t, []string{"start", "--config", here}, service.Args)
	require.Equal(t, m.home, service.Home)
	require.Equal(t, self.Username, service.RunAs)
	require.Contains(t, got.err, "the service does not see KITT_TOKEN")
	require.NotContains(t, got.out+got.err, "hidden")
	require.Empty(t, systemd.Read(m.run("service", "install", "--print", "--user").out).RunAs)
}

func TestServiceUsage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, args := range [][]string{
		{"service"}, {"service", "start"}, {"service", "install", "--user", "--run-as", "root"}, {"service", "logs", "--lines", "0"}, {"service", "status", "x"},
	} {
		got := m.run(args...)
		require.Equal(t, exitUsage, got.code, "%v: %s", args, got.err)
		require.Contains(t, got.err, "try: kitt-agent service")
	}
	for _, cmd := range newServiceCommand(&environment{}).Commands() {
		require.NotEmpty(t, cmd.Example, cmd.Name())
	}
}

func TestServiceWithoutSystemd(t *testing.T) {
	if _, err := os.Lstat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs this machine")
	}
	m := newMachine(t)
	m.write("server_url: http://kitt:8080\n")
	for _, command := range []string{"install", "uninstall", "status"} {
		got := m.run("service", command)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "this machine is not run by systemd")
		require.Contains(t, got.err, "kitt-agent start")
	}
}
