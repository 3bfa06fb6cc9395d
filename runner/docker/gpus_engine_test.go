package docker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// script writes a shell script into dir.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
	return path
}

// TestDefaultRuntimeThatIgnoresRequests has a default runtime that adds eight GPUs to each
// container, whatever was asked for. A set of two is refused, and all eight are fine. An
// engine that adds none, though it accepted the request, is refused too.
func TestDefaultRuntimeThatIgnoresRequests(t *testing.T) {
	dir := t.TempDir()
	// An engine takes requests for GPUs where it finds this one, which does nothing.
	script(t, dir, "nvidia-container-runtime-hook", "exit 0\n")
	var devices []string
	for i := range 8 {
		devices = append(devices, fmt.Sprintf(`{"path":"/dev/nvidia%d","type":"c","major":1,"minor":3,"fileMode":438}`, i))
	}
	greedy := script(t, dir, "greedy", `bundle=; previous=; create=
for word; do
	test "$previous" = --bundle && bundle=$word
	test "$word" = create && create=1
	previous=$word
done
test -n "$create" && sed -i 's|"linux":{|"linux":{"devices":[`+strings.Join(devices, ",")+`],|' "$bundle/config.json"
exec runc "$@"
`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	run := func(r *docker.Runner, gpus []string, files int) (runner.Result, error) {
		job := privateJob(t, "fake:lines=1")
		job.GPUs, job.GPUFiles, job.GPUsOnly = gpus, files, files == 2
		return r.Run(within(t, time.Minute), job, &runnertest.Recorder{})
	}
	_, r := privateEngine(t, "--add-runtime", "greedy="+greedy, "--default-runtime", "greedy")
	_, err := run(r, []string{"GPU-1", "GPU-2"}, 2)
	require.ErrorContains(t, err, "Docker Engine 20")
	require.ErrorContains(t, err, "it sees 8 GPUs and was to have 2, and the others may be another job's")
	result, err := run(r, []string{runner.AllGPUs}, 8)
	require.NoError(t, err)
	require.Equal(t, 8, *result.SeenGPUs)

	_, r = privateEngine(t)
	_, err = run(r, []string{runner.AllGPUs}, 8)
	require.ErrorContains(t, err, "gave the container too few: it sees 0 GPUs and was to have 8")
}

// TestCDI gives a job two of four devices of a CDI specification on a current engine. The
// variable KITT_TEST_DOCKERD names the directory of a dockerd from 28.2 on and its runc.
func TestCDI(t *testing.T) {
	bin := os.Getenv("KITT_TEST_DOCKERD")
	if bin == "" {
		t.Skip("SKIPPED because KITT_TEST_DOCKERD does not name a directory with a dockerd that knows CDI")
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cdi := t.TempDir()
	var named []string
	for i := range 4 {
		named = append(named, fmt.Sprintf(`{"name":"GPU-%d","containerEdits":{"deviceNodes":[{"path":"/dev/nvidia%d","hostPath":"/dev/null","type":"c","major":1,"minor":3}]}}`, i, i))
	}
	spec := `{"cdiVersion":"0.6.0","kind":"nvidia.com/gpu","devices":[` + strings.Join(named, ",") + `]}`
	require.NoError(t, os.WriteFile(filepath.Join(cdi, "nvidia.json"), []byte(spec), 0o600))
	_, r := privateEngine(t, "--cdi-spec-dir", cdi)
	job := privateJob(t, "fake:lines=1")
	job.GPUs, job.GPUFiles, job.GPUsOnly = []string{"GPU-1", "GPU-3"}, 2, true
	result, err := r.Run(within(t, time.Minute), job, &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, 2, *result.SeenGPUs)

	job = privateJob(t, "fake:lines=1")
	job.ID, job.GPUs, job.GPUFiles = "job-2", []string{"GPU-9"}, 1
	_, err = r.Run(within(t, time.Minute), job, &runnertest.Recorder{})
	require.Error(t, err, "the specification has no such device, and the engine no other way")
}
