package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUnit(t *testing.T) {
	t.Parallel()
	for groups, want := range map[string]string{
		"0::/system.slice/kitt-agent.service\n":                                                  "kitt-agent.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/kitt-agent.service\n":        "kitt-agent.service of the user",
		"12:pids:/system.slice/other.service\n1:name=systemd:/system.slice/kitt-agent.service\n": "kitt-agent.service",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                                       "",
		"0::/user.slice/user-1000.slice/user@1000.service\n":                                     "",
		"0::/\n": "",
		"hello":  "",
		"":       "",
	} {
		name, user := unit(groups)
		if user {
			name += " of the user"
		}
		require.Equal(t, want, name, "%q", groups)
	}
}

// A process is started anew with its arguments, environment and directory, and
// its output goes where it went.
func TestStartLikeBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho \"$WORD $1 $(pwd)\"; exec sleep 60\n"), 0o755))
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer log.Close()
	first := exec.Command(script, "argument")
	first.Args[0] = "program"
	first.Env = []string{"WORD=secret", "PATH=/usr/bin:/bin"}
	first.Dir = dir
	first.Stdout = log
	require.NoError(t, first.Start())
	line := "secret argument " + dir + "\n"
	requireLog(t, log.Name(), line)

	p, err := Inspect(first.Process.Pid)
	require.NoError(t, err)
	require.Equal(t, os.Getuid(), p.UID)
	require.Equal(t, dir, p.Dir)
	require.Equal(t, []string{"sleep", "60"}, p.Args)
	p.Args = []string{"program", "argument"} // as sleep has its own
	held := p.Hold()
	defer held.Close()
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()

	child, err := p.Start(script)
	require.NoError(t, err)
	requireLog(t, log.Name(), line+line)
	require.NoError(t, child.Ended())
	require.NoError(t, child.Kill())
	require.ErrorContains(t, child.Ended(), "signal killed")

	_, err = Inspect(child.PID())
	require.Error(t, err)
}

func requireLog(t *testing.T, name, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(name)
		return err == nil && string(text) == want
	}, 10*time.Second, 10*time.Millisecond)
}
