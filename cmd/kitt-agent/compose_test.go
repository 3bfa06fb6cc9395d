package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestAJobStaysWithTheRunnerThatBeganIt changes the runner in agent.yaml while a
// job runs: the other one finds the first one's files, here broken ones, and
// doesn't begin the job anew.
func TestAJobStaysWithTheRunnerThatBeganIt(t *testing.T) {
	t.Parallel()
	for began, file := range map[string]string{"docker": "docker/run.json", "process": "process/spec.json"} {
		for _, now := range []string{"docker", "process", "auto"} {
			job := runner.Job{ID: "job-1", Dir: t.TempDir()}
			path := filepath.Join(job.Dir, file)
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
			containers, run, err := (&environment{}).newRunner(&config.Config{Runner: now}, nil, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, containers.Close()) })
			_, err = run.(runner.Resumer).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
			require.ErrorIs(t, err, runner.ErrLost, "%s, then %s", began, now)
		}
	}
}
