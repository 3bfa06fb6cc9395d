package process_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A run owns its process and those that left its session, and no others.
func TestOwns(t *testing.T) {
	t.Parallel()
	job, other := newJob(t, "m"), newJob(t, "m")
	kitt := filepath.Join(t.TempDir(), "kitt")
	script := strings.ReplaceAll(`#!/bin/sh
setsid sh -c 'echo $$ > DIR/pids.new; exec sleep 1000' &
while ! [ -s DIR/pids.new ]; do :; done
echo $$ >> DIR/pids.new; mv DIR/pids.new DIR/pids; exec sleep 1000
`, "DIR", job.Dir)
	require.NoError(t, os.WriteFile(kitt, []byte(script), 0o700))
	r := process.New(process.Config{Command: kitt, Env: []string{"PATH=" + os.Getenv("PATH")}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, job, &runnertest.Recorder{})
		ended <- err
	}()
	defer func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	}()
	var pids []int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(job.Dir, "pids"))
		for word := range strings.FieldsSeq(string(text)) {
			pid, convErr := strconv.Atoi(word)
			require.NoError(t, convErr)
			pids = append(pids, pid)
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Len(t, pids, 2)
	stranger := exec.Command("sleep", "1000")
	require.NoError(t, stranger.Start())
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()

	asked := append([]int{1, stranger.Process.Pid, os.Getpid(), 1 << 30}, pids...)
	own, err := r.Owns(t.Context(), []runner.Job{other, job}, asked)
	require.NoError(t, err)
	require.Equal(t, pids, own)
	own, err = r.Owns(t.Context(), []runner.Job{other}, asked)
	require.NoError(t, err)
	require.Empty(t, own)
	own, err = runner.NewFallback(r).Owns(t.Context(), []runner.Job{job}, asked)
	require.NoError(t, err)
	require.ElementsMatch(t, pids, own)
}

// A benchmark knows where to say which phase begins.
func TestPhaseFile(t *testing.T) {
	t.Parallel()
	job := newJob(t, "m")
	kitt := filepath.Join(t.TempDir(), "kitt")
	require.NoError(t, os.WriteFile(kitt, []byte("#!/bin/sh\necho measure throughput >> $KITT_PHASE_FILE\n"), 0o700))
	_, err := process.New(process.Config{Command: kitt}).Run(t.Context(), job, &runnertest.Recorder{})
	require.NoError(t, err)
	text, err := os.ReadFile(job.PhaseFile())
	require.NoError(t, err)
	require.Equal(t, "measure throughput\n", string(text))
}
