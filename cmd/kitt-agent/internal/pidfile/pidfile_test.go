//go:build unix

package pidfile

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// holdEnv makes this test binary a process that holds the file it names, and
// idleEnv makes it one that does nothing.
const (
	holdEnv = "KITT_TEST_HOLD_PIDFILE"
	idleEnv = "KITT_TEST_IDLE"
)

func TestMain(m *testing.M) {
	if os.Getenv(idleEnv) != "" {
		fmt.Println("idle")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		os.Exit(0)
	}
	if path := os.Getenv(holdEnv); path != "" {
		_, err := Acquire(path)
		fmt.Println(err)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until killed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holder starts another process that holds the file at path.
func holder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+path)
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "<nil>\n", line)
	return cmd
}

func TestAnotherProcessHolds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kitt", "agent.pid")
	other := holder(t, path)

	owner, running, err := Find(path)
	require.NoError(t, err)
	require.True(t, running)
	require.Equal(t, other.Process.Pid, owner.PID)
	require.WithinDuration(t, time.Now(), owner.Since, time.Minute)

	_, err = Acquire(path)
	var held *HeldError
	require.ErrorAs(t, err, &held)
	require.Equal(t, other.Process.Pid, held.Owner.PID)
	require.ErrorContains(t, err, "process "+strconv.Itoa(other.Process.Pid)+", since ")

	// A crash leaves the file, which is no obstacle.
	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	require.FileExists(t, path)
	_, running, err = Find(path)
	require.NoError(t, err)
	require.False(t, running)
	f, err := Acquire(path)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(os.Getpid())+"\n", string(text))
	require.NoError(t, f.Release())
	require.NoError(t, f.Release())
	require.NoFileExists(t, path)
}

func TestStaleContents(t *testing.T) {
	t.Parallel()
	// 1 lives, but is no agent.
	for _, text := range []string{"", "1\n", "garbage", "-5", "99999999999999999999", "4194305"} {
		path := filepath.Join(t.TempDir(), "agent.pid")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		_, running, err := Find(path)
		require.NoError(t, err)
		require.False(t, running, "%q", text)
		f, err := Acquire(path)
		require.NoError(t, err, "%q", text)
		require.NoError(t, f.Release())
	}
	_, running, err := Find(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	require.False(t, running)
}

func TestPythonAgent(t *testing.T) {
	t.Parallel()
	require.True(t, isPythonAgent([]string{"/home/u/.kitt/agent-venv/bin/python3", "/home/u/.kitt/agent-venv/bin/kitt-agent", "start", ""}))
	require.True(t, isPythonAgent([]string{"python3.11", "-m", "kitt_agent", "start"}))
	require.False(t, isPythonAgent([]string{"python3", "other.py"}))
	require.False(t, isPythonAgent([]string{"vim", "kitt-agent"}))
	require.False(t, isPythonAgent([]string{""}))

	// One that runs is found although it takes no lock, and keeps ours out.
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args = []string{"python3", "/opt/kitt/bin/kitt-agent", "start"}
	cmd.Env = append(os.Environ(), idleEnv+"=1")
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "agent.pid")
	require.NoError(t, os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644))
	owner, running, err := Find(path)
	require.NoError(t, err)
	require.True(t, running)
	require.Equal(t, cmd.Process.Pid, owner.PID)
	_, err = Acquire(path)
	require.ErrorContains(t, err, "another agent is running")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	_, running, err = Find(path)
	require.NoError(t, err)
	require.False(t, running)
}

// At no moment do two hold the file, however many try and let go.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "agent.pid")
	var holding atomic.Int32
	var most atomic.Int32
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				f, err := tryAcquire(path)
				if err != nil {
					t.Error(err)
				}
				if f == nil {
					continue
				}
				taken.Add(1)
				most.Store(max(most.Load(), holding.Add(1)))
				holding.Add(-1)
				if err := f.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, taken.Load())
	require.EqualValues(t, 1, most.Load())
}
