package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestServiceTellsSystemdHowItFares starts the real program as systemd would,
// with a server that is away: it is ready all the same, feeds the watchdog, and
// says when it stops.
func TestServiceTellsSystemdHowItFares(t *testing.T) {
	prog := buildProgram(t)
	d := newDaemon(t, prog, "http://127.0.0.1:1", "simulated")
	dir, err := os.MkdirTemp("", "notify") // a socket's path is short
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	require.NoError(t, err)
	defer socket.Close()
	journal, err := os.Create(filepath.Join(dir, "journal"))
	require.NoError(t, err)
	defer journal.Close()
	info, err := journal.Stat()
	require.NoError(t, err)
	stat := info.Sys().(*syscall.Stat_t)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, prog.path, "start")
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home, "NOTIFY_SOCKET="+socket.LocalAddr().String(),
		"WATCHDOG_USEC=60000", fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
	cmd.Stderr = journal
	require.NoError(t, cmd.Start())

	var told []string
	hears := func(what string, matches func() bool) {
		t.Helper()
		require.NoError(t, socket.SetReadDeadline(time.Now().Add(30*time.Second)))
		message := make([]byte, 4096)
		for !matches() {
			n, err := socket.Read(message)
			require.NoError(t, err, "no %s in %q", what, told)
			told = append(told, string(message[:n]))
		}
	}
	has := func(text string) bool { return strings.Contains(strings.Join(told, "\n"), text) }
	feeds := func() (n int) {
		for _, message := range told {
			if message == "WATCHDOG=1" {
				n++
			}
		}
		return n
	}
	hears("readiness", func() bool { return has("READY=1\nSTATUS=idle; ") })
	require.Equal(t, "STATUS=starting", told[0])
	hears("feeding", func() bool { return feeds() >= 3 })
	hears("status", func() bool { return has("STATUS=idle; server not reached: ") })
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	hears("stop", func() bool { return has("STOPPING=1\nEXTEND_TIMEOUT_USEC=62000000\nSTATUS=stopping") })
	require.NoError(t, cmd.Wait(), "exits with 0, so that systemd leaves it at that")

	text, err := os.ReadFile(journal.Name())
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	require.True(t, strings.HasPrefix(lines[0], "<6>agent started version="), "%s", text)
	for _, line := range lines {
		require.Regexp(t, `^<[3467]>[a-z]`, line)
	}
}

// The terminal goes, and with it what reads the agent's log: the agent stops as it
// does on any other signal.
func TestStartOutlivesItsReader(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SIGHUP is ignored, as under nohup, and so it is by programs that this one starts")
	}
	prog := buildProgram(t)
	d := newDaemon(t, prog, "http://127.0.0.1:1", "simulated")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, prog.path, "start")
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home)
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(log).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "agent started")
	require.NoError(t, log.Close())

	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, cmd.Wait())
	require.NoFileExists(t, filepath.Join(d.home, "agent.pid"))
	text, err := os.ReadFile(filepath.Join(d.home, "logs", "agent.log"))
	require.NoError(t, err)
	require.Contains(t, string(text), `"msg":"stopped"`)
}
