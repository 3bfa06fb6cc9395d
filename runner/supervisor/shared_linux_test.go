package supervisor_test

import (
	"bufio"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// superviseShared is the program of a job on a cluster.
func superviseShared(dir string, command []string) int {
	_, err := supervisor.Run(supervisor.Config{
		Dir: dir, Command: command, Forward: true,
		Shared: &supervisor.Shared{Label: "job 17 on n1", Grace: 100 * time.Millisecond},
	})
	if err != nil {
		return supervisor.StatusFailed
	}
	return 0
}

// shared returns a command that supervises another one whose directory others share.
func shared(t *testing.T, dir string, command ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, supervisor.Prepare(dir))
	cmd := exec.Command(exe, append([]string{"shared", dir}, command...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

func TestASharedRunSaysHowMuchItPrinted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, shared(t, dir, "sh", "-c", "echo one; echo two").Run())
	d := open(t, dir)
	end, found, err := d.Exit()
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 8, end.Output)
	require.Empty(t, end.Asked)
	alive, found, err := d.Alive()
	require.NoError(t, err)
	require.True(t, found)
	require.True(t, alive.Done)
	require.EqualValues(t, 8, alive.Output)
	require.Equal(t, end, *alive.Exit)
	claim, _, err := d.Claim()
	require.NoError(t, err)
	require.Equal(t, "job 17 on n1", claim.Label)

	var out runnertest.Recorder
	f := supervisor.NewFollower(d, &out, 0, func() (bool, error) { return true, nil })
	f.Remote(func() time.Duration { return 0 })
	require.NoError(t, f.Pump(t.Context(), time.Time{}))
	require.Equal(t, "one\ntwo\n", out.Text())
	require.EqualValues(t, 8, f.Offset())
	require.NoError(t, f.Close())
}

// A benchmark that ignores SIGTERM is killed after its grace, whoever asks it to end.
func TestASharedRunIsEnded(t *testing.T) {
	t.Parallel()
	for asked, ask := range map[string]func(dir string, cmd *exec.Cmd) error{
		"cancel":  func(dir string, _ *exec.Cmd) error { return supervisor.Cancel(dir) },
		"SIGTERM": func(_ string, cmd *exec.Cmd) error { return cmd.Process.Signal(unix.SIGTERM) },
	} {
		t.Run(asked, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fifo := dir + "/ready"
			require.NoError(t, unix.Mkfifo(fifo, 0o600))
			cmd := shared(t, dir, "sh", "-c", "trap '' TERM; echo begun; echo x >"+fifo+"; while :; do sleep 1; done")
			require.NoError(t, cmd.Start())
			begun, err := os.Open(fifo)
			require.NoError(t, err)
			_, err = bufio.NewReader(begun).ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, begun.Close())
			require.False(t, supervisor.Cancelled(dir))
			require.NoError(t, ask(dir, cmd))
			require.NoError(t, cmd.Wait())
			end, found, err := open(t, dir).Exit()
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, asked, end.Asked)
			require.Equal(t, 137, end.Code)
		})
	}
}

// A remote file that seems shorter than what was read is late, and not cut off.
func TestARemoteFileThatIsShorterIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/output", []byte("one\n"), 0o600))
	d := open(t, dir)
	var out runnertest.Recorder
	looks := 0
	f := supervisor.NewFollower(d, &out, 4, func() (bool, error) {
		looks++
		if looks == 3 {
			return true, os.WriteFile(dir+"/output", []byte("one\ntwo\n"), 0o600)
		}
		return false, os.WriteFile(dir+"/output", []byte("o"), 0o600)
	})
	f.Remote(func() time.Duration { return 0 })
	require.NoError(t, f.Pump(t.Context(), time.Time{}))
	require.Equal(t, "two\n", out.Text())
	require.Empty(t, out.Messages())
	require.NoError(t, f.Close())
}
