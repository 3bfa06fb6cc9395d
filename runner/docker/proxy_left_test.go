package docker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestAProxyWithoutABenchmarkIsEnded has a program that was killed after it had started a
// job's socket proxy, and an image that is gone since then.
func TestAProxyWithoutABenchmarkIsEnded(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(r *docker.Runner, job runner.Job) error{
		"run": func(r *docker.Runner, job runner.Job) error {
			_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
			return err
		},
		"resume": func(r *docker.Runner, job runner.Job) error {
			_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newStub(t, nil)
			s.answers["GET /images/kitt:latest/json"] = reply(404, `{"message":"No such image: kitt:latest"}`)
			job := stubJob(t)
			dir := filepath.Join(job.Dir, "proxy")
			require.NoError(t, socketproxy.Start(t.Context(), []string{proxyProgram}, dir, socketproxy.Policy{
				Job: job.ID, Engine: "unix:///var/run/docker.sock", Images: socketproxy.DefaultImages(),
				ShmMax: 8 << 30, Pids: socketproxy.DefaultPids, Network: socketproxy.NetworkHost,
			}))
			t.Cleanup(func() { require.NoError(t, socketproxy.End(context.Background(), dir)) })
			socket := filepath.Join(socketproxy.SocketDir(dir), "docker.sock")
			_, err := os.Lstat(socket)
			require.NoError(t, err)
			require.Error(t, call(r, job))
			_, err = os.Lstat(socket)
			require.ErrorIs(t, err, os.ErrNotExist, "nobody serves it")
		})
	}
}
