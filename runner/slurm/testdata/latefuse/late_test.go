package latefuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

// TestMain is the wrapper when a node starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == slurm.NodeWord {
		os.Exit(slurm.RunOnNode(os.Args[2:], os.Stdout))
	}
	os.Exit(m.Run())
}

// late is by how much a mount is behind.
const late = 3 * time.Second

// mounts returns a directory that this machine sees through one mount, and the other
// mount of it.
func mounts(t *testing.T) (here, there string) {
	t.Helper()
	disk := t.TempDir()
	for _, mnt := range []*string{&here, &there} {
		*mnt = t.TempDir()
		server, err := Mount(disk, *mnt, late)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Unmount()) })
	}
	return here, there
}

// cluster returns a cluster whose nodes see the other mount, and a runner on it.
func cluster(t *testing.T) (*slurmtest.Cluster, *slurm.Runner, string) {
	t.Helper()
	if err := slurmtest.Missing(slurmtest.Config{}); err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_SLURM"), "Slurm: %v", err)
		t.Skipf("SKIPPED for want of Slurm: %v", err)
	}
	here, there := mounts(t)
	dir, err := os.MkdirTemp("", "slurm")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c, err := slurmtest.Start(t.Context(), dir, slurmtest.Config{Nodes: 1, Hidden: here, Over: there})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	r, err := slurm.New(config(t, c, here))
	require.NoError(t, err)
	return c, r, here
}

func config(t *testing.T, c *slurmtest.Cluster, dir string) slurm.Config {
	t.Helper()
	kitt, err := runnertest.BuildFakeKitt(t.TempDir())
	require.NoError(t, err)
	return slurm.Config{
		Owner: "gpu-1", SharedDir: dir, Command: []string{kitt}, Poll: 500 * time.Millisecond, Late: 20 * time.Second,
		Commands: append([]string{"PATH=" + os.Getenv("PATH")}, c.Env()...),
		Wrapper: func(context.Context) (string, string, error) {
			exe, err := os.Executable()
			return exe, slurm.NodeWord, err
		},
	}
}

func newJob(t *testing.T, dir, id, model string) runner.Job {
	t.Helper()
	job := runner.Job{
		ID: id, Dir: filepath.Join(dir, id), ResultsDir: filepath.Join(dir, id, "results"),
		Model: model, Engine: "vllm", Suite: "quick", StopGrace: time.Second,
	}
	require.NoError(t, os.MkdirAll(job.ResultsDir, 0o700))
	return job
}

func lines(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	return text.String()
}

// One mount sees late what the other has written: else the tests show nothing.
func TestMountsAreLate(t *testing.T) {
	t.Parallel()
	here, there := mounts(t)
	path := filepath.Join(here, "file")
	require.NoFileExists(t, path)
	require.NoError(t, os.WriteFile(filepath.Join(there, "file"), []byte("text"), 0o600))
	require.NoFileExists(t, path, "that it was missing is remembered")
}

// Every line arrives, and the outcome, though the agent sees files late.
func TestEveryLineOfALateFile(t *testing.T) {
	t.Parallel()
	_, r, dir := cluster(t)
	var out runnertest.Recorder
	_, err := r.Run(t.Context(), newJob(t, dir, "late-1", "fake:lines=60,delay=100ms,exit=3"), &out)
	exit, ok := errors.AsType[*runner.ExitError](err)
	require.True(t, ok, "%v: %s", err, out.Messages())
	require.Equal(t, 3, exit.Code)
	require.Equal(t, lines(60), out.Text())
}

// An agent that was restarted goes on where it was, and a cancel reaches the node.
func TestARestartAndACancel(t *testing.T) {
	t.Parallel()
	c, r, dir := cluster(t)
	job := newJob(t, dir, "late-2", "fake:lines=20,delay=100ms,hang")
	var out runnertest.Recorder
	stopWhen := func(text string, cause error) context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		out.OnOutput(func() {
			if strings.Contains(out.Text(), text) {
				cancel(cause)
			}
		})
		return ctx
	}
	_, err := r.Run(stopWhen("line 0\n", runner.ErrDetach), job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	again, err := slurm.New(config(t, c, dir))
	require.NoError(t, err)
	stopped := errors.New("stopped by the test")
	_, err = again.Resume(stopWhen("line 19\n", stopped), job, out.Position(), &out)
	require.ErrorIs(t, err, stopped)
	require.NotErrorIs(t, err, runner.ErrStillRunning)
	require.Equal(t, lines(20), out.Text())
}

// Two starts at the same moment, each through a mount of its own: one runs.
func TestOneOfTwoStarts(t *testing.T) {
	t.Parallel()
	here, there := mounts(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	job := newJob(t, here, "late-3", "")
	dir := filepath.Join(job.Dir, "slurm")
	require.NoError(t, os.Mkdir(dir, 0o700))
	ran := filepath.Join(t.TempDir(), "ran")
	spec := fmt.Sprintf(`{"version":1,"job":{"ID":"late-3"},"command":["/bin/sh","-c","echo x >>%s; sleep 1"]}`, ran)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spec.json"), []byte(spec), 0o600))
	var starts []*exec.Cmd
	for _, mnt := range []string{here, there, here, there} {
		cmd := exec.Command(exe, slurm.NodeWord, filepath.Join(mnt, "late-3/slurm/spec.json"))
		require.NoError(t, cmd.Start())
		starts = append(starts, cmd)
	}
	for _, cmd := range starts {
		require.NoError(t, cmd.Wait())
	}
	text, err := os.ReadFile(ran)
	require.NoError(t, err)
	require.Equal(t, "x\n", string(text))
}
