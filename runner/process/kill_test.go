package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
)

// drive is what an agent does with a job, as a program that can be killed: it
// goes on with the run that an earlier one began, or begins it, and appends the
// output to the file log in the job's directory. What is in there is where the
// next one goes on.
func drive(kitt, spec string) int {
	err := func() error {
		var job runner.Job
		if err := json.Unmarshal([]byte(spec), &job); err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		log, err := os.OpenFile(logOf(job), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		info, err := log.Stat()
		if err != nil {
			return err
		}
		r := process.New(process.Config{Command: kitt, Supervisor: []string{exe, "supervise"}})
		ctx, out := context.Background(), logOutput{log}
		_, err = r.Resume(ctx, job, runner.Position(info.Size()), out)
		if errors.Is(err, runner.ErrNotStarted) {
			_, err = r.Run(ctx, job, out)
		}
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func logOf(job runner.Job) string { return filepath.Join(job.Dir, "log") }

// logOutput keeps the benchmark's output and drops the runner's own words.
type logOutput struct{ file *os.File }

func (o logOutput) WriteMessage(string) error { return nil }

func (o logOutput) WriteOutput(p []byte, _ time.Time, _ runner.Position) error {
	_, err := o.file.Write(p)
	return err
}

// startDriver starts a program that calls drive.
func startDriver(t testing.TB, job runner.Job) *exec.Cmd {
	exe, err := os.Executable()
	require.NoError(t, err)
	spec, err := json.Marshal(job)
	require.NoError(t, err)
	cmd := exec.Command(exe, "drive", kitt, string(spec))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

func logText(t testing.TB, job runner.Job) string {
	text, err := os.ReadFile(logOf(job))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	return string(text)
}

// TestTheAgentIsKilled kills what follows a benchmark three times in its midst.
func TestTheAgentIsKilled(t *testing.T) {
	t.Parallel()
	job := newJob(t, "fake:lines=400,delay=2ms")
	for n := 1; n <= 3; n++ {
		driver := startDriver(t, job)
		require.Eventually(t, func() bool {
			return strings.Contains(logText(t, job), fmt.Sprintf("line %d\n", n*80))
		}, 10*time.Second, time.Millisecond)
		require.NoError(t, driver.Process.Kill())
		require.Error(t, driver.Wait())
	}
	require.NoError(t, startDriver(t, job).Wait())
	require.Equal(t, lines(0, 400), logText(t, job))
	require.FileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))
}

// TestTheAgentIsKilledAnywhere kills it at moments that chance picks, most of
// them while the benchmark is being begun. The benchmark's own file, which it
// only appends to, shows that it was begun once.
func TestTheAgentIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	for range 25 {
		job := newJob(t, "fake:lines=20,delay=1ms")
		for range 3 {
			driver := startDriver(t, job)
			<-time.After(time.Duration(chance.Int64N(int64(30 * time.Millisecond))))
			require.NoError(t, driver.Process.Kill())
			_ = driver.Wait() // it may have come to its end before
		}
		require.NoError(t, startDriver(t, job).Wait())
		require.Equal(t, lines(0, 20), logText(t, job))
		printed, err := os.ReadFile(filepath.Join(job.Dir, "process", "output"))
		require.NoError(t, err)
		require.Equal(t, lines(0, 20), string(printed))
	}
}

// TestTheAgentIsStopped freezes what follows a benchmark until that has ended.
func TestTheAgentIsStopped(t *testing.T) {
	t.Parallel()
	job := newJob(t, "fake:lines=200,delay=1ms")
	driver := startDriver(t, job)
	require.Eventually(t, func() bool { return strings.Contains(logText(t, job), "line 3\n") }, 10*time.Second, time.Millisecond)
	require.NoError(t, driver.Process.Signal(unix.SIGSTOP))
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(job.Dir, "process", "exit.json"))
		return err == nil
	}, 10*time.Second, time.Millisecond, "the benchmark goes on")
	require.NotContains(t, logText(t, job), "line 199\n")
	require.NoError(t, driver.Process.Signal(unix.SIGCONT))
	require.NoError(t, driver.Wait())
	require.Equal(t, lines(0, 200), logText(t, job))
}
