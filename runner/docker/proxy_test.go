package docker_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// scriptImage returns an image that plays kitt by a script, and its engine.
var scriptImage = sync.OnceValues(func() (string, error) {
	name := "kitt-agent-test-script:" + strings.ToLower(rand.Text())[:10]
	return name, engine.BuildScriptKitt(context.Background(), name, "")
})

// scripted returns a runner whose benchmarks may start containers of the image that
// plays the engine, and a job that runs a script.
func scripted(t *testing.T, config docker.Config, script ...string) (*docker.Runner, runner.Job) {
	needEngine(t)
	name, err := scriptImage()
	require.NoError(t, err)
	config.DefaultImage = name
	if config.EngineImages == nil {
		config.EngineImages = []string{name}
	}
	r := newRunner(t, config)
	model, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	job := newJob(t, model)
	text := strings.ReplaceAll(strings.Join(script, "\n"), "IMAGE", name)
	require.NoError(t, os.WriteFile(filepath.Join(job.Model, "script"), []byte(text+"\n"), 0o644))
	t.Cleanup(func() { require.Empty(t, engines(t, job), "nothing of the job's is left") })
	return r, job
}

// engines returns the containers that a job's benchmark started.
func engines(t *testing.T, job runner.Job) []container.Summary {
	list, err := engine.Client.ContainerList(context.Background(), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", docker.LabelEngine+"="+job.ID),
	})
	require.NoError(t, err)
	return list.Items
}

// kittRun is how KITT starts an engine.
const kittRun = "docker run -d --network host --name kitt-1764403200 --gpus all -v $MODEL:/models/m -e A=b --shm-size=8g IMAGE "

// TestBenchmarkStartsAnEngine runs the docker commands of KITT's engine code.
func TestBenchmarkStartsAnEngine(t *testing.T) {
	t.Parallel()
	r, job := scripted(t, docker.Config{},
		"docker info --format {{.ServerVersion}}",
		"docker image inspect IMAGE --format found",
		kittRun+"engine serve",
		"<FROM docker exec -i $ID engine tee /Modelfile",
		"docker ps -q --no-trunc --filter name=kitt-",
		"docker exec $ID engine cat /Modelfile",
		"docker ps -q --no-trunc --filter name=kitt-",
		"docker exec $ID engine cat /models/m/script",
		"docker logs --tail 50 kitt-1764403200",
		"docker inspect kitt-1764403200 --format {{.HostConfig.PidsLimit}}{{.Mounts}}",
		"docker stop -t 10 kitt-1764403200",
		"docker rm -f kitt-1764403200",
		"docker ps -a -q",
	)
	var out runnertest.Recorder
	_, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err, out.Text())
	text := out.Text()
	require.NotContains(t, text, "failed", text)
	require.Contains(t, text, "\nfound\n")
	require.Equal(t, 2, strings.Count(text, "\nFROM\n"), text)
	require.Contains(t, text, "docker info", "the script was read in the engine's container")
	require.Contains(t, text, "\nserving\n")
	require.Contains(t, text, "\n32768[{bind  "+job.Model+" /models/m   false rprivate}]\n", text)
	require.Equal(t, "running in a container of the image "+imageName(t)+"\n", out.Messages(), "nothing was left to be ended")
}

// TestBenchmarkIsRefused has what a benchmark may not do, in words that docker prints.
func TestBenchmarkIsRefused(t *testing.T) {
	t.Parallel()
	foreign := sibling(t, t.TempDir())
	r, job := scripted(t, docker.Config{},
		"docker run -d -v /:/host IMAGE engine serve",
		"docker run -d -v /var/run/docker.sock:/var/run/docker.sock IMAGE engine serve",
		"docker run -d --privileged IMAGE engine serve",
		"docker run -d --pid host IMAGE engine serve",
		"docker run -d --ipc host IMAGE engine serve",
		"docker run -d --cap-add SYS_ADMIN IMAGE engine serve",
		"docker run -d --device /dev/kmsg IMAGE engine serve",
		"docker run -d --security-opt seccomp=unconfined IMAGE engine serve",
		"docker run -d --network container:FOREIGN IMAGE engine serve",
		"docker run -d --volumes-from FOREIGN IMAGE engine serve",
		"docker run -d alpine",
		"docker pull alpine",
		"docker build -t kitt/vllm:arm64 -f $MODEL/script $MODEL",
		"docker stop FOREIGN", "docker kill FOREIGN", "docker rm FOREIGN", "docker logs FOREIGN", "docker inspect FOREIGN",
		"docker exec FOREIGN engine id",
		"docker volume ls", "docker images", "docker network ls", "docker cp FOREIGN:/ /x", "docker rename FOREIGN x", "docker events", "docker system prune -f",
	)
	path := filepath.Join(job.Model, "script")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	script := strings.ReplaceAll(string(text), "FOREIGN", foreign)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o644))
	var out runnertest.Recorder
	_, err = r.Run(t.Context(), job, &out)
	require.NoError(t, err, out.Text())
	require.Equal(t, strings.Count(script, "\n"), strings.Count(out.Text(), "\nfailed: exit status "), out.Text())
	require.Contains(t, out.Text(), `Error response from daemon: kitt-agent's policy: a container of a benchmark may not mount "/", only the job's model`)
	require.Contains(t, out.Text(), "may not have HostConfig.Privileged")
	require.Contains(t, out.Text(), "the image alpine:latest is not one of policy.engine_images")
	require.Contains(t, out.Text(), "build it on this machine with: docker build -t kitt/vllm:arm64")
	require.True(t, exists(t, foreign))
	log, err := os.ReadFile(filepath.Join(job.Dir, "proxy", "log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "HostConfig.Privileged", "the owner can read it too")
}

// TestCancelEndsTheJobsOwnEngines cancels one of two jobs whose engines have the same
// name, which a foreign container has too.
func TestCancelEndsTheJobsOwnEngines(t *testing.T) {
	t.Parallel()
	foreign := sibling(t, t.TempDir())
	script := []string{strings.ReplaceAll(kittRun, "kitt-1764403200", foreign) + "engine serve", "hang"}
	cause := errors.New("stopped by a test")
	var jobs [2]runner.Job
	var ends [2]func()
	var done [2]chan error
	var outs [2]runnertest.Recorder
	for i := range jobs {
		r, job := scripted(t, docker.Config{}, script...)
		jobs[i], done[i] = job, make(chan error, 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		t.Cleanup(func() { cancel(cause) })
		ends[i] = func() { cancel(cause) }
		go func() {
			_, err := r.Run(ctx, job, &outs[i])
			done[i] <- err
		}()
	}
	for i := range jobs {
		require.Eventually(t, func() bool { return strings.Contains(outs[i].Text(), "$ hang") }, time.Minute, 10*time.Millisecond)
		require.Len(t, engines(t, jobs[i]), 1, outs[i].Text())
	}
	ends[0]()
	require.ErrorIs(t, <-done[0], cause)
	require.Empty(t, engines(t, jobs[0]))
	require.Contains(t, outs[0].Messages(), "ended the engine container "+foreign+"-"+jobs[0].ID[:16]+" that the benchmark left running\n")
	require.Len(t, engines(t, jobs[1]), 1, "the other job's stays")
	require.True(t, exists(t, foreign), "a foreign one stays")
	ends[1]()
	require.ErrorIs(t, <-done[1], cause)
}

// TestCrashEndsTheJobsOwnEngines has a benchmark that fails and leaves its engine.
func TestCrashEndsTheJobsOwnEngines(t *testing.T) {
	t.Parallel()
	r, job := scripted(t, docker.Config{}, kittRun+"engine serve", "docker kill $ID-no-such")
	require.NoError(t, os.Chmod(job.ResultsDir, 0o755))
	var out runnertest.Recorder
	_, err := r.Run(t.Context(), job, &out)
	require.NoError(t, err, "the script's end")
	require.Contains(t, out.Messages(), "ended the engine container kitt-1764403200-")
	require.NoError(t, r.Clean(t.Context(), job, time.Now(), &out), "there is nothing left to clean")
}

// TestNetworkOfTheJob has two jobs at once whose engines take the same port, which a
// program of the machine has as well.
func TestNetworkOfTheJob(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 2)
	var outs [2]runnertest.Recorder
	for i := range 2 {
		r, job := scripted(t, docker.Config{Network: "job"},
			kittRun+fmt.Sprintf("engine serve 8000 model-%d", i), "get http://localhost:8000/health", "time http://127.0.0.1:8000/")
		go func() {
			_, err := r.Run(t.Context(), job, &outs[i])
			errs <- err
		}()
	}
	require.NoError(t, errors.Join(<-errs, <-errs))
	for i := range outs {
		require.Contains(t, outs[i].Text(), fmt.Sprintf("\nmodel-%d\n", i), outs[i].Text())
		require.NotContains(t, outs[i].Text(), "failed", outs[i].Text())
	}
}

func imageName(t *testing.T) string {
	name, err := scriptImage()
	require.NoError(t, err)
	return name
}
