package docker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// watched runs a job to its end and returns its container as the engine had it meanwhile.
func watched(t *testing.T, r *docker.Runner, job runner.Job) (c container.InspectResponse, output string) {
	t.Helper()
	var out runnertest.Recorder
	out.OnOutput(func() {
		if ids := containers(t, job); c.ID == "" && len(ids) == 1 {
			got, err := engine.Client.ContainerInspect(context.Background(), ids[0], client.ContainerInspectOptions{})
			require.NoError(t, err)
			c = got.Container
		}
	})
	_, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err, out.Text())
	require.NotEmpty(t, c.ID)
	return c, out.Text()
}

// TestLimitsOfContainers bounds what the containers of a benchmark and its engines take.
// An engine may ask for less.
func TestLimitsOfContainers(t *testing.T) {
	t.Parallel()
	r, job := scripted(t, docker.Config{Pids: 4096, MemoryPercent: 50, CapAdd: []string{"SYS_NICE"}, ReadOnlyRoot: true},
		kittRun+"engine serve",
		"docker run -d --name kitt-2 --memory 64m IMAGE engine serve",
		"docker inspect kitt-1764403200 --format limits-{{.HostConfig.PidsLimit}}-{{.HostConfig.Memory}}",
		"docker inspect kitt-2 --format limits-{{.HostConfig.PidsLimit}}-{{.HostConfig.Memory}}",
		"docker rm -f kitt-1764403200 kitt-2",
	)
	c, text := watched(t, r, job)
	require.EqualValues(t, 4096, *c.HostConfig.PidsLimit)
	require.Greater(t, c.HostConfig.Memory, int64(1<<30))
	require.Contains(t, strings.Join(c.HostConfig.CapAdd, " "), "SYS_NICE")
	require.True(t, c.HostConfig.ReadonlyRootfs)
	require.Contains(t, text, "limits-4096-67108864\n")
	require.Regexp(t, `limits-4096-[1-9][0-9]{9,}\n`, text)
}

// TestBenchmarkWithoutASocket has a benchmark that can't reach the container engine.
func TestBenchmarkWithoutASocket(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"host", "job"} {
		r, job := scripted(t, docker.Config{EngineSocket: docker.SocketNone, Network: socketproxy.Network(network)}, "docker ps -q")
		c, text := watched(t, r, job)
		require.Contains(t, text, "Cannot connect to the Docker daemon")
		for _, m := range c.HostConfig.Mounts {
			require.NotContains(t, m.Source, "docker.sock")
			require.NotContains(t, m.Target, "kitt-engine")
		}
		require.NotContains(t, strings.Join(c.Config.Env, " "), "DOCKER_HOST")
		require.Equal(t, []string{"ALL"}, []string(c.HostConfig.CapDrop))
	}
}
