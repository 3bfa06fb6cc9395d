package process_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// leave begins job with a supervisor, and detaches from it once it prints. It returns
// the benchmark's PID.
func leave(t *testing.T, job runner.Job) (pid int) {
	t.Helper()
	ctx, detach := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	out.OnOutput(func() { detach(runner.ErrDetach) })
	_, err := supervised(t).Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	text, err := os.ReadFile(filepath.Join(job.Dir, "process", "started.json"))
	require.NoError(t, err)
	var claim struct {
		Child struct {
			PID int `json:"pid"`
		} `json:"child"`
	}
	require.NoError(t, json.Unmarshal(text, &claim))
	require.True(t, running(claim.Child.PID))
	return claim.Child.PID
}

// TestADamagedFileIsNotTheEnd puts a directory in the place of one file of a run that
// goes on: it is followed to its own end.
func TestADamagedFileIsNotTheEnd(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lock", "output"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := newJob(t, "fake:lines=200,delay=10ms")
			pid := leave(t, job)
			path := filepath.Join(job.Dir, "process", name)
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
			_, err := supervised(t).Resume(t.Context(), job, 0, &runnertest.Recorder{})
			require.NoError(t, err)
			require.False(t, running(pid))
			require.FileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))
		})
	}
}

// TestARunWhoseDirectoryWasRemovedIsEnded removes the files of a run that goes on: it
// is ended, and not begun a second time.
func TestARunWhoseDirectoryWasRemovedIsEnded(t *testing.T) {
	t.Parallel()
	job := newJob(t, "fake:lines=10000,delay=10ms")
	pid := leave(t, job)
	require.NoError(t, os.RemoveAll(filepath.Join(job.Dir, "process")))
	_, err := supervised(t).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.NotErrorIs(t, err, runner.ErrNotStarted)
	require.Eventually(t, func() bool { return !running(pid) }, 10*time.Second, time.Millisecond)
}
