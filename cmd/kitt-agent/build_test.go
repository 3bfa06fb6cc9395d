package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// builder is an engine of a test's own, which may have and lose kitt:latest, and
// a program to put into images.
type builder struct {
	*dockertest.Private
	kitt []byte
}

func newBuilder(t *testing.T) *builder {
	t.Helper()
	dockerEngine(t)
	dir, err := os.MkdirTemp("", "kitt-build") // short enough for the path of a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p, err := dockertest.StartPrivate(t.Context(), dir)
	if err != nil {
		t.Skipf("SKIPPED because no Docker engine of our own can be started: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	t.Setenv("DOCKER_HOST", p.Host)
	path, err := runnertest.BuildFakeKitt(t.TempDir())
	require.NoError(t, err)
	kitt, err := os.ReadFile(path)
	require.NoError(t, err)
	return &builder{p, kitt}
}

// context returns a build context as the server packs it, whose image runs kitt
// with a model's words while it is built.
func (b *builder) context(t *testing.T, words string) []byte {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	w := tar.NewWriter(zip)
	dockerfile := "FROM scratch\nCOPY src/kitt /kitt\n"
	if words != "" {
		dockerfile += fmt.Sprintf("RUN [\"/kitt\", \"run\", \"-m\", \"fake:%s\", \"-o\", \"/\"]\n", words)
	}
	for name, text := range map[string]string{"docker/web/Dockerfile": dockerfile, "src/kitt": string(b.kitt)} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "kitt-build-context/" + name, Mode: 0o755, Size: int64(len(text))}))
		_, err := io.WriteString(w, text)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), zip.Close()))
	return packed.Bytes()
}

func serveContext(t *testing.T, data []byte) *kittapitest.Server {
	t.Helper()
	server, err := kittapitest.NewServer(kittapitest.Config{BuildContext: data})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

func TestBuild(t *testing.T) {
	b := newBuilder(t)

	t.Run("from the server", func(t *testing.T) {
		server := serveContext(t, b.context(t, "lines=3,no-metrics"))
		m := newMachine(t)
		m.write("server_url: " + server.URL + "\nkitt_image: registry.example/kitt:own\nport: 1\n")
		m.vars["HTTPS_PROXY"] = "http://proxy.example:3128"
		got := m.run("build", "--json")
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.err, "Verified: SHA-256 ")
		require.Contains(t, got.err, "\nline 2\n")
		require.Contains(t, got.err, "get HTTPS_PROXY")
		require.NotContains(t, got.err, "proxy.example")
		var report map[string]any
		require.NoError(t, json.Unmarshal([]byte(got.out), &report))
		require.Equal(t, []any{"registry.example/kitt:own", "kitt:latest"}, report["tags"])
		require.Equal(t, runtime.GOARCH, report["architecture"])
		require.Positive(t, report["bytes"])
		for _, tag := range []string{"registry.example/kitt:own", "kitt:latest"} {
			image, err := b.Client.ImageInspect(t.Context(), tag)
			require.NoError(t, err)
			require.Equal(t, report["id"], image.ID)
		}
		require.Empty(t, leftOvers(t, b), "no container of a step is left")
	})

	t.Run("with a tag, from a directory", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".dockerignore"), []byte("secret*\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "secret.txt"), make([]byte, 1<<20), 0o600))
		m := newMachine(t)
		got := m.run("build", "--file", dir, "--dockerfile", "Dockerfile", "--tag", "own", "--no-cache")
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.out, "own:latest, kitt:latest")
		image, err := b.Client.ImageInspect(t.Context(), "own:latest")
		require.NoError(t, err)
		require.Less(t, image.Size, int64(1<<20), "what .dockerignore names stays out")
	})

	t.Run("a step fails", func(t *testing.T) {
		server := serveContext(t, b.context(t, "lines=2,exit=7"))
		m := newMachine(t)
		got := m.run("build", "--server", server.URL)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "line 1")
		require.Contains(t, got.err, "could not be built: The command '/kitt run -m fake:lines=2,exit=7 -o /' returned a non-zero code: 7")
		require.Empty(t, got.out)
		require.Empty(t, leftOvers(t, b))
	})

	t.Run("interrupted", func(t *testing.T) {
		server := serveContext(t, b.context(t, "lines=1,hang"))
		prog := buildProgram(t)
		var out basetest.Buffer
		cmd := exec.Command(prog.path, "build", "--server", server.URL)
		cmd.Env = append(os.Environ(), "KITT_HOME="+t.TempDir())
		cmd.Stderr = &out
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool { return strings.Contains(out.String(), "line 0") }, 30*time.Second, 5*time.Millisecond)
		require.NotEmpty(t, leftOvers(t, b), "the step runs")
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		require.Error(t, cmd.Wait())
		require.Equal(t, exitFailure, cmd.ProcessState.ExitCode())
		require.Contains(t, out.String(), "interrupted")
		require.Eventually(t, func() bool { return len(leftOvers(t, b)) == 0 }, 20*time.Second, 20*time.Millisecond, "the engine cancels it")
	})

	t.Run("hostile", func(t *testing.T) {
		var packed bytes.Buffer
		w := tar.NewWriter(&packed)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "kitt-build-context/../../etc/passwd"}))
		require.NoError(t, w.Close())
		server := serveContext(t, packed.Bytes())
		got := newMachine(t).run("build", "--server", server.URL)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "leads out of the context")
	})
}

// leftOvers returns the containers that there are.
func leftOvers(t *testing.T, b *builder) []string {
	t.Helper()
	list, err := b.Client.ContainerList(context.Background(), client.ContainerListOptions{All: true})
	require.NoError(t, err)
	var ids []string
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

// stubEngine is an engine that only says that it is there.
func stubEngine(t *testing.T) {
	t.Helper()
	engine := newStubHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/build") {
			_, _ = io.Copy(io.Discard, r.Body)
			http.Error(w, `{"message":"write /var/lib/docker: no space left on device"}`, http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, `{}`)
	})
	t.Setenv("DOCKER_HOST", engine)
}

func TestBuildOfATamperedContext(t *testing.T) {
	stubEngine(t)
	for name, c := range map[string]struct {
		digest http.HandlerFunc
		args   []string
		code   int
		want   string
	}{
		"tampered": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"sha256":"`+strings.Repeat("ab", 32)+`"}`)
		}, nil, exitFailure, "was damaged on its way"},
		"no digest":               {http.NotFound, nil, exitFailure, "try: kitt-agent build --no-verify"},
		"no digest, not verified": {http.NotFound, []string{"--no-verify"}, exitFailure, "NOT VERIFIED"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newStubHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/sha256") {
					c.digest(w, r)
					return
				}
				_, _ = io.WriteString(w, "no tar at all")
			})
			got := newMachine(t).run(append([]string{"build", "--server", "http" + strings.TrimPrefix(server, "tcp")}, c.args...)...)
			require.Equal(t, c.code, got.code)
			require.Contains(t, got.err, c.want)
			require.Equal(t, len(c.args) > 0, strings.Contains(got.err, "it cannot be read"), got.err)
		})
	}
}

func TestBuildOnAFullDisk(t *testing.T) {
	stubEngine(t)
	server := serveContext(t, nil)
	got := newMachine(t).run("build", "--server", server.URL)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "docker system prune")
}

func TestBuildWithoutWhatItNeeds(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	got := newMachine(t).run("build", "--server", "http://127.0.0.1:1")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "try: sudo systemctl start docker")

	stubEngine(t)
	got = newMachine(t).run("build")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "no server is configured")
	for _, tag := range []string{"UPPER CASE", "kitt@sha256:" + strings.Repeat("ab", 32), "-x"} {
		got = newMachine(t).run("build", "--tag", tag)
		require.Equal(t, exitUsage, got.code, tag)
		require.Contains(t, got.err, "is no name for an image")
	}
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.SetFault(func(*http.Request) kittapitest.Fault { return kittapitest.Fault{Status: http.StatusNotFound} })
	got = newMachine(t).run("build", "--server", server.URL)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "offers no build-context")
}
