package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// program is a built kitt-agent, with the programs that containers need next to it, and
// the directory of a program that plays kitt.
type program struct{ path, bin string }

// builtIn is a directory that TestMain makes and removes.
var builtIn string

// buildBoth builds them there, for the first test that wants them.
var buildBoth = sync.OnceValue(func() error {
	if out, err := exec.Command("go", "build", "-o", filepath.Join(builtIn, "kitt-agent"), ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build the daemon: %w: %s", err, out)
	}
	for _, build := range []func(dir string) (string, error){
		runnertest.BuildFakeKitt, runnertest.BuildSupervisor, runnertest.BuildSocketProxy,
	} {
		if _, err := build(builtIn); err != nil {
			return err
		}
	}
	return nil
})

// buildProgram returns the daemon as it is shipped, under a path of the test's own.
func buildProgram(t testing.TB) program {
	t.Helper()
	require.NoError(t, buildBoth())
	dir := t.TempDir()
	p := program{path: filepath.Join(dir, "kitt-agent"), bin: filepath.Join(dir, "bin")}
	require.NoError(t, os.Mkdir(p.bin, 0o755))
	// Links and no copies: a file that is open to be written while another test
	// starts a process cannot be run.
	for name, dir := range map[string]string{"kitt-agent": dir, "kitt-supervise": dir, "kitt-socket-proxy": dir, "kitt": p.bin} {
		require.NoError(t, os.Link(filepath.Join(builtIn, name), filepath.Join(dir, name)))
	}
	return p
}

// daemon is an agent in a process of its own, which can really be killed.
type daemon struct {
	t    testing.TB
	prog program
	home string
	port int
	env  []string // more variables than the test's own

	out basetest.Buffer

	mu  sync.Mutex
	cmd *exec.Cmd
}

// newDaemon configures an agent with the name chaos of the server at url.
func newDaemon(t testing.TB, prog program, url, runner string, more ...string) *daemon {
	t.Helper()
	return newDaemonNamed(t, prog, "chaos", url, runner, more...)
}

func newDaemonNamed(t testing.TB, prog program, name, url, runner string, more ...string) *daemon {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	d := &daemon{t: t, prog: prog, home: t.TempDir(), port: port}
	config := fmt.Sprintf("name: %s\nserver_url: %s\ntoken: chaos-token-0123456789\nport: %d\nlisten: 127.0.0.1\nrunner: %s\nheartbeat_interval_s: 10\nstop_grace: 1s\ndrain_timeout: 2s\n%s\n",
		name, url, port, runner, strings.Join(more, "\n"))
	require.NoError(t, os.WriteFile(filepath.Join(d.home, "agent.yaml"), []byte(config), 0o600))
	t.Cleanup(d.kill)
	return d
}

// startLocalDaemon starts an agent that runs local benchmarks, with a server of its own,
// and waits until they know each other. The context ends after limit.
func startLocalDaemon(t testing.TB, limit time.Duration, settings ...string) (context.Context, *daemon) {
	t.Helper()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	server.AddAgent("chaos")
	d := newDaemon(t, buildProgram(t), server.URL, "process", settings...)
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	return ctx, d
}

// start starts the agent, with the given flags.
func (d *daemon) start(flags ...string) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmd = exec.Command(d.prog.path, append([]string{"start"}, flags...)...)
	d.cmd.Env = append(append(os.Environ(), d.env...), "KITT_HOME="+d.home, "PATH="+d.prog.bin+":"+os.Getenv("PATH"))
	d.cmd.Stderr = &d.out
	// The children of a killed agent must not hold on to our output.
	d.cmd.WaitDelay = time.Second
	require.NoError(d.t, d.cmd.Start())
}

// stopLimit is far more than an agent takes to end.
const stopLimit = time.Minute

// kill kills the agent, as a crash does.
func (d *daemon) kill() { d.end(syscall.SIGKILL) }

// stop ends the agent politely.
func (d *daemon) stop() { d.end(syscall.SIGTERM) }

func (d *daemon) end(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Signal(sig) // it may have ended by itself
	stuck := time.AfterFunc(stopLimit, func() { _ = d.cmd.Process.Signal(syscall.SIGQUIT) })
	_ = d.cmd.Wait()
	if !stuck.Stop() {
		d.t.Errorf("the agent did not end within %s:\n%s", stopLimit, d.out.String())
	}
	d.cmd = nil
}

// command makes a request of the agent's API, which may well not answer.
func (d *daemon) command(body string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/commands", d.port), strings.NewReader(body))
	require.NoError(d.t, err)
	req.Header.Set("Authorization", "Bearer chaos-token-0123456789")
	req.Header.Set("Content-Type", "application/json")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

// output runs another command of the program, with the agent's settings.
func (d *daemon) output(args ...string) (string, error) {
	cmd := exec.Command(d.prog.path, args...)
	cmd.Env = append(append(os.Environ(), d.env...), "KITT_HOME="+d.home)
	text, err := cmd.Output()
	return string(text), err
}

// undelivered returns how many reports the agent still owes, -1 if it does not
// say.
func undelivered(d *daemon) int {
	cmd := exec.Command(d.prog.path, "status", "--json")
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
	text, err := cmd.Output()
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`"undelivered":\s*(\d+)`).FindSubmatch(text)
	if m == nil {
		return -1
	}
	var n int
	_, _ = fmt.Sscan(string(m[1]), &n)
	return n
}

// processesOf returns the command lines of what still runs of prog.
func processesOf(t *testing.T, prog program) []string {
	t.Helper()
	var left []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		if line := strings.ReplaceAll(string(text), "\x00", " "); strings.Contains(line, filepath.Dir(prog.path)) {
			left = append(left, line)
		}
	}
	return left
}

// tail returns the end of what the agent printed.
func tail(d *daemon) string {
	text := d.out.String()
	return text[max(0, len(text)-6000):]
}

// pause waits where a fault takes its time; the time is part of the fault.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// newStubHTTP serves a handler, as tcp://host:port.
func newStubHTTP(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}
