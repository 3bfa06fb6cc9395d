package docker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func TestAModelOfSeveralFilesIsMountedWhole(t *testing.T) {
	needEngine(t)
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	var files []string
	for _, name := range []string{"big-00001-of-00002.gguf", "big-00002-of-00002.gguf"} {
		files = append(files, filepath.Join(dir, name))
		require.NoError(t, os.WriteFile(files[len(files)-1], nil, 0o644))
	}
	r, job := newRunner(t, docker.Config{}), newJob(t, files[0])
	job.ModelFiles = files
	mounted := map[string]bool{}
	var out runnertest.Recorder
	out.OnOutput(func() {
		for _, id := range containers(t, job) {
			c, err := engine.Client.ContainerInspect(context.Background(), id, client.ContainerInspectOptions{})
			require.NoError(t, err)
			for _, m := range c.Container.HostConfig.Mounts {
				mounted[m.Target] = m.ReadOnly
			}
		}
	})
	_, err = r.Run(t.Context(), job, &out)
	require.NoError(t, err)
	for _, file := range files {
		require.True(t, mounted[file], "%s in %v", file, mounted)
	}
	require.NotContains(t, mounted, dir)

	job = newJob(t, files[0])
	job.ModelFiles = append(files, filepath.Join(dir, "none"))
	_, err = r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorContains(t, err, "the model can't be found")
}
