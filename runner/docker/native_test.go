package docker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// In a container kitt has no native engine. Nothing is asked of Docker to know that.
func TestNoNativeBenchmarkInAContainer(t *testing.T) {
	t.Parallel()
	r, err := docker.New(docker.Config{Host: "unix:///nonexistent.sock"})
	require.NoError(t, err)
	defer r.Close()
	job := runner.Job{ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(), Model: "m", Mode: runner.ModeNative}
	_, err = r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.ErrorContains(t, err, "engine_mode native needs the kitt command of this machine")
	require.ErrorIs(t, r.CheckJob(job), runner.ErrUnavailable)
	job.Mode = runner.ModeDocker
	require.NoError(t, r.CheckJob(job))
}
