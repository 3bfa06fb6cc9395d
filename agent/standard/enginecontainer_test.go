package standard_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/storage"
)

// KITT mounts the model's directory into the engine's container, and nothing else.
// An engine must find every file of a snapshot in Hugging Face's cache there, and
// every part of a split file.
func TestAnEnginesContainerHasTheWholeModel(t *testing.T) {
	t.Parallel()
	engine, err := dockertest.Find(t.Context())
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_DOCKER"), "Docker engine: %v", err)
		t.Skipf("SKIPPED for want of a Docker engine: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	image := readtreeImage(t, engine)

	repo := filepath.Join(t.TempDir(), "models--org--m")
	snapshot := filepath.Join(repo, "snapshots/rev")
	require.NoError(t, os.MkdirAll(filepath.Join(repo, "blobs"), 0o755))
	require.NoError(t, os.MkdirAll(snapshot, 0o755))
	for i, name := range []string{"config.json", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"} {
		blob := fmt.Sprintf("blobs/%d", i)
		require.NoError(t, os.WriteFile(filepath.Join(repo, blob), bytes.Repeat([]byte{1}, 100*(i+1)), 0o644))
		require.NoError(t, os.Symlink("../../"+blob, filepath.Join(snapshot, name)))
	}
	models, err := storage.New(storage.Config{Settings: storage.Settings{Dir: t.TempDir()}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, models.Close()) })

	out, status := readInContainer(t, engine, image, snapshot)
	require.NotZero(t, status, "without its blobs the snapshot is of no use: %s", out)

	lease, err := models.Acquire(t.Context(), storage.Request{Model: snapshot, Holder: "vllm"})
	require.NoError(t, err)
	out, status = readInContainer(t, engine, image, lease.Path)
	require.Zero(t, status, out)
	require.Equal(t, "/models/m/config.json 100\n/models/m/m-00001-of-00002.gguf 200\n/models/m/m-00002-of-00002.gguf 300\n", out)

	// KITT's llama.cpp mounts the directory of the file.
	lease, err = models.Acquire(t.Context(), storage.Request{Model: filepath.Join(snapshot, "m-00002-of-00002.gguf"), Holder: "llama_cpp"})
	require.NoError(t, err)
	out, status = readInContainer(t, engine, image, filepath.Dir(lease.Path))
	require.Zero(t, status, out)
	require.Equal(t, "/models/m/m-00001-of-00002.gguf 200\n/models/m/m-00002-of-00002.gguf 300\n", out)
}

func readtreeImage(t *testing.T, engine *dockertest.Engine) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "readtree")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./testdata/readtree")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	name := "kitt-agent-test:readtree-" + strings.ToLower(rand.Text())[:10]
	require.NoError(t, engine.BuildImage(t.Context(), name, dockertest.Image{Files: map[string][]byte{"readtree": data}}))
	t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), name)) })
	return name
}

// readInContainer runs readtree in a container that has dir alone, as KITT's vLLM
// does, and returns what it printed and its status.
func readInContainer(t *testing.T, engine *dockertest.Engine, image, dir string) (string, int64) {
	t.Helper()
	ctx := t.Context()
	made, err := engine.Client.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config:     &container.Config{Image: image, Entrypoint: []string{"/readtree"}, Cmd: []string{"/models/m"}},
		HostConfig: &container.HostConfig{Binds: []string{dir + ":/models/m:ro"}, NetworkMode: "none"},
	})
	require.NoError(t, err)
	defer func() {
		_, err := engine.Client.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true})
		require.NoError(t, err)
	}()
	_, err = engine.Client.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	require.NoError(t, err)
	wait := engine.Client.ContainerWait(ctx, made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	var status int64
	select {
	case end := <-wait.Result:
		status = end.StatusCode
	case err := <-wait.Error:
		require.NoError(t, err)
	}
	logs, err := engine.Client.ContainerLogs(ctx, made.ID, client.ContainerLogsOptions{ShowStdout: true})
	require.NoError(t, err)
	defer logs.Close()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, io.Discard, logs)
	require.NoError(t, err)
	return out.String(), status
}
