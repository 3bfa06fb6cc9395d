package docker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestRebootIsNoExit has containers from before the machine's last start. What the
// engine says of one whose end it missed is no status of the benchmark's.
func TestRebootIsNoExit(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{255: "the machine was restarted", 143: "the machine was shut down or restarted", 3: "Exit 3"} {
		s, r := newStub(t, nil)
		s.answers["GET /containers/c1/json"] = reply(200, exited(code, false))
		s.answers["GET /containers/c1/logs"] = reply(200, "")
		job := stubJob(t)
		require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
		record := []byte(`{"version":1,"job":"job-1","container":"c1","boot":"another"}`) // of an older agent
		require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), record, 0o600))
		_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
		require.ErrorContains(t, err, want)
		if code == 255 {
			require.ErrorIs(t, err, runner.ErrLost)
			require.NotContains(t, err.Error(), "Exit")
		}
	}
	s, r := newStub(t, nil)
	s.exit = ""
	job := stubJob(t)
	supervisedRun(t, job, 1, "another")
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "run", "exit.json"), []byte(`{"version":1,"code":143,"signal":"SIGTERM"}`), 0o600))
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorContains(t, err, "the machine was shut down or restarted while it ran")
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}
