package standard_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ runner.Resumer           = (*standard.Runner)(nil)
	_ runner.Cleaner           = (*standard.Runner)(nil)
	_ runner.Sweeper           = (*standard.Runner)(nil)
	_ runner.ContainerRunner   = (*standard.Runner)(nil)
	_ hwdetect.Detector        = (*standard.Detector)(nil)
	_ hwdetect.TelemetryReader = (*standard.Detector)(nil)
)

func TestZeroConfig(t *testing.T) {
	t.Parallel()
	parts, err := standard.New(standard.Config{})
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(parts.Storage.Dir()))
	require.NoError(t, parts.Close())
	require.NoError(t, parts.Close(), "twice")
}

func TestBadConfigs(t *testing.T) {
	t.Setenv("DOCKER_HOST", "nonsense")
	models := storage.Config{Settings: storage.Settings{Dir: t.TempDir()}}
	for want, cfg := range map[string]standard.Config{
		`Kind is "podman"`: {Kind: "podman", Storage: models},
		"docker host":      {Kind: standard.Auto, Storage: models},
		"Workers":          {Kind: standard.Process, Storage: storage.Config{Settings: models.Settings, Workers: -1}},
		"ProbeTimeout":     {Kind: standard.Process, Storage: models, Detector: hwdetect.Config{ProbeTimeout: -1}},
	} {
		_, err := standard.New(cfg)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "standard: ")
	}
	parts, err := standard.New(standard.Config{Kind: standard.Process, Storage: models})
	require.NoError(t, err, "a machine without Docker needs no good DOCKER_HOST")
	require.NoError(t, parts.Close())
}

// TestAJobStaysWithTheRunnerThatBeganIt changes the kind while a job runs: the other
// runner finds the first one's files, here broken ones, and doesn't begin the job
// again.
func TestAJobStaysWithTheRunnerThatBeganIt(t *testing.T) {
	t.Parallel()
	for began, file := range map[string]string{"docker": "docker/run.json", "process": "process/spec.json"} {
		for _, now := range []standard.Kind{standard.Docker, standard.Process, standard.Auto} {
			job := runner.Job{ID: "job-1", Dir: t.TempDir()}
			path := filepath.Join(job.Dir, file)
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
			run, err := standard.NewRunner(standard.Config{Kind: now})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, run.Close()) })
			_, err = run.Resume(t.Context(), job, 0, &runnertest.Recorder{})
			require.ErrorIs(t, err, runner.ErrLost, "%s, then %s", began, now)
		}
	}
}

// A benchmark gets this program's environment, and none of what is for this program
// alone.
func TestEnvironmentOfLocalBenchmarks(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("KITT_TOKEN", "secret")
	t.Setenv("HF_HOME", "/models/hf")
	kitt := filepath.Join(t.TempDir(), "kitt")
	require.NoError(t, os.WriteFile(kitt, []byte("#!/bin/sh\nenv\n"), 0o700))
	cfg := standard.Config{Kind: standard.Process, Env: []string{"HF_TOKEN=hf_1"}, Process: process.Config{Command: kitt}}
	for want, own := range map[string][]string{"HF_HOME=/models/hf\n": nil, "ONLY=this\n": {"ONLY=this"}} {
		cfg.Process.Env = own
		run, err := standard.NewRunner(cfg)
		require.NoError(t, err)
		var out runnertest.Recorder
		_, err = run.Run(t.Context(), runner.Job{ID: "a", Dir: t.TempDir(), ResultsDir: t.TempDir(), Model: "m"}, &out)
		require.NoError(t, err, out.Text())
		require.NoError(t, run.Close())
		require.Contains(t, out.Text(), want)
		require.NotRegexp(t, "(?m)^(NOTIFY_SOCKET|WATCHDOG_USEC|KITT_TOKEN)=", out.Text())
		require.Equal(t, own == nil, strings.Contains(out.Text(), "HF_TOKEN=hf_1\n"))
	}
}
