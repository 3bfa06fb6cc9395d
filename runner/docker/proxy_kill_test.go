package docker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// killed starts an agent on a scripted job, kills it once ready returns true, and has
// another one bring the job to its end. It returns what the benchmark printed.
func killed(t *testing.T, script []string, images []string, ready func(text string) bool, after func()) string {
	_, job := scripted(t, docker.Config{}, script...)
	name := imageName(t)
	d := drive{Job: job, Image: name, Owner: "test-" + t.Name(), Images: append(images, name)}
	driver := d.start(t)
	require.Eventually(t, func() bool {
		text, _, _, err := d.read()
		return err == nil && ready(text)
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, driver.Process.Kill())
	require.Error(t, driver.Wait())
	after()
	require.NoError(t, d.start(t).Wait())
	text, _, _, err := d.read()
	require.NoError(t, err)
	require.NotContains(t, text, "failed", text)
	return text
}

// TestAgentIsKilledInAnExec kills the agent while a command of the benchmark's runs in
// its engine's container.
func TestAgentIsKilledInAnExec(t *testing.T) {
	t.Parallel()
	needEngine(t)
	text := killed(t, []string{kittRun + "engine serve", "docker exec $ID engine slow", "docker rm -f kitt-1764403200"}, nil,
		func(text string) bool { return strings.Contains(text, "$ docker exec") }, func() {})
	require.Contains(t, text, "slow 0\nslow 1\n")
}

// TestAgentIsKilledInAPull kills the agent while an image is on its way.
func TestAgentIsKilledInAPull(t *testing.T) {
	t.Parallel()
	needEngine(t)
	path := filepath.Join(t.TempDir(), "kitt")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./dockertest/scriptkitt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	require.NoError(t, build.Run())
	program, err := os.ReadFile(path)
	require.NoError(t, err)
	r, name := newRegistry(t, "usr/bin/engine", program)
	text := killed(t, []string{"docker pull " + name, strings.ReplaceAll(kittRun, "IMAGE", name) + "engine serve", "docker logs $ID", "docker rm -f kitt-1764403200"},
		[]string{name},
		func(string) bool {
			select {
			case <-r.asked:
				return true
			default:
				return false
			}
		}, r.release)
	require.Contains(t, text, "Downloaded newer image for "+name)
	require.Contains(t, text, "\nserving\n")
}

// TestTheSocketProxyIsKilled kills the proxy of a benchmark that runs: the benchmark
// reaches the engine again.
func TestTheSocketProxyIsKilled(t *testing.T) {
	t.Parallel()
	r, job := scripted(t, docker.Config{}, kittRun+"engine serve", "wait $MODEL/go", "docker rm -f kitt-1764403200")
	var out runnertest.Recorder
	proxy := filepath.Join(job.Dir, "proxy")
	cancelWhen(&out, "/go\n", func() {
		text, err := os.ReadFile(filepath.Join(proxy, "proxy.json"))
		assert.NoError(t, err)
		var state struct {
			Process struct{ PID int } `json:"process"`
		}
		assert.NoError(t, json.Unmarshal(text, &state))
		assert.NoError(t, syscall.Kill(state.Process.PID, syscall.SIGKILL))
		assert.Eventually(t, func() bool {
			again, err := os.ReadFile(filepath.Join(proxy, "proxy.json"))
			return err == nil && !bytes.Equal(again, text)
		}, time.Minute, 5*time.Millisecond)
		assert.NoError(t, os.WriteFile(filepath.Join(job.Model, "go"), nil, 0o644))
	})
	_, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err, out.Text())
	require.NotContains(t, out.Text(), "failed", out.Text())
}
