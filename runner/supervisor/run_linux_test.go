package supervisor_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// TestMain is the program in front of a benchmark when it is asked to be, since
// it needs a process to itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		os.Exit(supervisor.Main(os.Args[2:], os.Stdout))
	}
	if len(os.Args) > 3 && os.Args[1] == "shared" {
		os.Exit(superviseShared(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "called-off" {
		os.Exit(calledOff(os.Args[2]))
	}
	os.Exit(m.Run())
}

// program returns a command that supervises a shell script.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, append([]string{"supervise", "-dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

func open(t *testing.T, dir string) *supervisor.Dir {
	t.Helper()
	d, err := supervisor.OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestMainWritesHowItEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
		want supervisor.Exit
		text string
	}{
		"success":      {[]string{"--", "sh", "-c", "echo out; echo err >&2"}, 0, supervisor.Exit{}, "out\nerr\n"},
		"other status": {[]string{"-done", "113", "--", "true"}, 113, supervisor.Exit{}, ""},
		"failure":      {[]string{"-done", "113", "--", "sh", "-c", "exit 3"}, 3, supervisor.Exit{Code: 3}, ""},
		"signal":       {[]string{"--", "sh", "-c", "kill -9 $$"}, 137, supervisor.Exit{Code: 137, Signal: "SIGKILL"}, ""},
		"no program":   {[]string{"--", "no-such-kitt"}, supervisor.StatusFailed, supervisor.Exit{Error: `exec: "no-such-kitt": executable file not found in $PATH`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := program(t, dir, c.args...)
			said, err := cmd.Output()
			if c.code != 0 {
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.code, cmd.ProcessState.ExitCode())
			require.Contains(t, string(said), "output is in "+filepath.Join(dir, "output")+"\n")
			text, err := os.ReadFile(filepath.Join(dir, "output"))
			require.NoError(t, err)
			require.Equal(t, c.text, string(text))
			end, found, err := open(t, dir).Exit()
			require.NoError(t, err)
			require.True(t, found)
			require.NotEmpty(t, end.Boot)
			require.False(t, end.Ended.Before(end.Started))
			require.Equal(t, c.want, supervisor.Exit{Code: end.Code, Signal: end.Signal, Error: end.Error})
		})
	}
}

// TestSecondStart starts a supervisor again after the end, as an engine does that
// restarts a container, and while one runs, as a duplicate does.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(t.TempDir(), "go")
	require.NoError(t, unix.Mkfifo(script, 0o600))
	first := program(t, dir, "--", "sh", "-c", "echo ready; read line <"+script+"; exit 5")
	require.NoError(t, first.Start())
	eventually(t, func() bool { text, _ := os.ReadFile(filepath.Join(dir, "output")); return len(text) > 0 })

	again := func() {
		cmd := program(t, dir, "--", "sh", "-c", "echo twice")
		said, err := cmd.Output()
		require.Error(t, err)
		require.Equal(t, supervisor.StatusTaken, cmd.ProcessState.ExitCode())
		require.Contains(t, string(said), "begun before")
	}
	again()
	require.NoError(t, os.WriteFile(script, []byte("go\n"), 0o600))
	require.Error(t, first.Wait())
	again()
	end, _, err := open(t, dir).Exit()
	require.NoError(t, err)
	require.Equal(t, 5, end.Code)
	text, err := os.ReadFile(filepath.Join(dir, "output"))
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(text))
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, time.Millisecond)
}

// TestSignalsReachTheBenchmark sends the supervisor what an engine sends to stop
// a container: the benchmark gets it, and so does what it started.
func TestSignalsReachTheBenchmark(t *testing.T) {
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
			// The inner shell is another process of the same group.
			script := `trap 'wait; exit 7' ` + name + `; sh -c 'trap "echo inner; exit" ` + name + `; echo ready; while :; do sleep 0.01; done' & wait`
			cmd := program(t, dir, "--", "sh", "-c", script)
			require.NoError(t, cmd.Start())
			eventually(t, func() bool { text, _ := os.ReadFile(filepath.Join(dir, "output")); return len(text) > 0 })
			require.NoError(t, cmd.Process.Signal(sig))
			require.Error(t, cmd.Wait())
			require.Equal(t, 7, cmd.ProcessState.ExitCode())
			text, err := os.ReadFile(filepath.Join(dir, "output"))
			require.NoError(t, err)
			require.Regexp(t, `^ready\n(.*\n)?inner\n$`, string(text), "a shell may say which signal ended its sleep")
		})
	}
}

// TestKilledSupervisorIsSeen kills the supervisor: the lock is free then,
// and no exit.json says how the benchmark ended.
func TestKilledSupervisorIsSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := program(t, dir, "--", "sh", "-c", "echo $$; exec sleep 1000")
	require.NoError(t, cmd.Start())
	d := open(t, dir)
	eventually(t, func() bool { c, found, err := d.Claim(); return err == nil && found && c.Child.PID != 0 })
	held, err := d.Held()
	require.NoError(t, err)
	require.True(t, held)
	c, _, err := d.Claim()
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	held, err = d.Held()
	require.NoError(t, err)
	require.False(t, held)
	_, found, err := d.Exit()
	require.NoError(t, err)
	require.False(t, found)
	require.NoError(t, unix.Kill(c.Child.PID, unix.SIGKILL))
}

// TestCalledOff calls a run off between the claim and the start: nothing is
// started, and nothing ever will be.
func TestCalledOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	said, err := exec.Command(exe, "called-off", dir).Output()
	require.NoError(t, err)
	require.Contains(t, string(said), "called off: not wanted")
	c, found, err := open(t, dir).Claim()
	require.NoError(t, err)
	require.True(t, found)
	require.Zero(t, c.Child.PID)
	require.NoFileExists(t, filepath.Join(dir, "begun"))
}

func calledOff(dir string) int {
	asked := 0
	_, err := supervisor.Run(supervisor.Config{
		Dir: dir, Command: []string{"touch", filepath.Join(dir, "begun")},
		Wanted: func() error {
			if asked++; asked == 2 {
				return errors.New("not wanted")
			}
			return nil
		},
	})
	if err == nil {
		return 1
	}
	_, _ = io.WriteString(os.Stdout, err.Error())
	return 0
}
