package dockercheck

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/preflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fakeEngine answers the requests of the checks like a Docker engine.
type fakeEngine struct {
	version   string // of the API
	component string // what the engine calls itself; empty for nothing
	info      map[string]any
	images    map[string]string // architecture by name
	startErr  string            // the error of a start
	exit      int               // exit status of the container
	output    string            // of the container
	pull      func(w http.ResponseWriter, r *http.Request)
	hangStart bool

	requested json.RawMessage // the last container's DeviceRequests
	removed   []string
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.Index(path[1:], "/")+1:]
	}
	answer := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case path == "/_ping":
		w.Header().Set("Api-Version", f.version)
		w.Header().Set("Ostype", "linux")
		fmt.Fprint(w, "OK")
	case path == "/version":
		answer(200, map[string]any{"Components": []map[string]string{{"Name": f.component}}})
	case path == "/info":
		answer(200, f.info)
	case strings.HasPrefix(path, "/images/") && strings.HasSuffix(path, "/json"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "/images/"), "/json")
		arch, ok := f.images[name]
		if !ok {
			answer(404, map[string]string{"message": "No such image: " + name})
			return
		}
		answer(200, map[string]string{"Id": "sha256:1", "Architecture": arch})
	case path == "/images/create":
		f.pull(w, r)
	case path == "/containers/create":
		var body struct {
			HostConfig struct{ DeviceRequests json.RawMessage }
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		f.requested = body.HostConfig.DeviceRequests
		answer(201, map[string]any{"Id": "c1", "Warnings": []string{}})
	case path == "/containers/c1/start":
		if f.hangStart {
			<-r.Context().Done()
			return
		}
		if f.startErr != "" {
			answer(500, map[string]string{"message": f.startErr})
			return
		}
		w.WriteHeader(204)
	case path == "/containers/c1/wait":
		answer(200, map[string]int{"StatusCode": f.exit})
	case path == "/containers/c1/json":
		answer(200, map[string]any{"Id": "c1", "Config": map[string]any{"Tty": false}})
	case path == "/containers/c1/logs":
		frame := append([]byte{1, 0, 0, 0, 0, 0, 0, byte(len(f.output))}, f.output...)
		_, _ = w.Write(frame)
	case r.Method == http.MethodDelete:
		f.removed = append(f.removed, path)
		w.WriteHeader(204)
	default:
		answer(404, map[string]string{"message": "page not found"})
	}
}

// healthyEngine has KITT's image and two GPUs.
func healthyEngine() *fakeEngine {
	return &fakeEngine{
		version: "1.50",
		info: map[string]any{
			"ServerVersion": "28.2.2", "Architecture": "x86_64", "DockerRootDir": "/var/lib/docker",
			"CgroupDriver": "systemd", "CgroupVersion": "2", "Runtimes": map[string]any{"nvidia": map[string]any{}, "runc": map[string]any{}},
		},
		images: map[string]string{"kitt:latest": "amd64"},
		output: "GPU 0: NVIDIA H100 (UUID: GPU-1)\nGPU 1: NVIDIA H100 (UUID: GPU-2)\n",
	}
}

// checks returns the checks of an engine with the handler h.
func checks(t testing.TB, h http.Handler, cfg Config) *Checks {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cli, err := client.New(client.WithHost("tcp://" + s.Listener.Addr().String()))
	require.NoError(t, err)
	t.Cleanup(func() { cli.Close() })
	cfg.Client = cli
	if cfg.Root == nil {
		cfg.Root = fstest.MapFS{}
	}
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestHealthyEngine(t *testing.T) {
	t.Parallel()
	f := healthyEngine()
	c := checks(t, f, Config{})
	results := preflight.Run(t.Context(), c.All(), nil)
	require.Empty(t, preflight.Failed(results))
	require.Equal(t, "docker", results[0].Name)
	require.Contains(t, results[0].Details, "engine 28.2.2, API 1.50")
	require.Contains(t, results[1].Details, "kitt:latest sees 2 GPUs")
	require.Equal(t, "kitt:latest for amd64", results[2].Details)
	require.Equal(t, preflight.OK, results[4].Status, results[4].Details)
	require.JSONEq(t, `[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":null}]`, string(f.requested))
	require.Equal(t, []string{"/containers/c1"}, f.removed)
	require.True(t, c.HasImage(t.Context()))
}

func TestContainersWithoutGPUs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		start, out string
		exit       int
		words, fix string
	}{
		{name: "no toolkit", start: `could not select device driver "" with capabilities: [[gpu]]`, words: "container toolkit is not set up", fix: "nvidia-ctk runtime configure"},
		{name: "no CDI devices", start: "failed to discover GPU vendor from CDI: no known GPU vendor found", words: "container toolkit is not set up", fix: "nvidia-ctk"},
		{name: "no driver", start: "OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver not loaded", words: "driver is not loaded", fix: "nvidia-smi"},
		{name: "mismatch", out: "Failed to initialize NVML: Driver/library version mismatch", exit: 18, words: "library differ", fix: "restart"},
		{name: "lost after daemon-reload", out: "Failed to initialize NVML: Unknown Error", exit: 255, words: "lost its GPUs", fix: "create-dev-char-symlinks"},
		{name: "cgroups", start: "nvidia-container-cli: mount error: failed to add device rules: bpf_prog_query(BPF_CGROUP_DEVICE) failed", words: "control groups", fix: "no-cgroups"},
		{name: "nothing injected", start: `exec: "nvidia-smi": executable file not found in $PATH`, words: "added no nvidia-smi", fix: "nvidia-ctk"},
		{name: "no GPU listed", out: "No devices were found", exit: 6, words: "status 6: No devices were found", fix: "nvidia"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := healthyEngine()
			f.startErr, f.output, f.exit = tt.start, tt.out, tt.exit
			r := checks(t, f, Config{}).GPU().Run(t.Context())
			require.Equal(t, preflight.Fail, r.Status)
			require.Contains(t, r.Details, tt.words)
			require.Contains(t, r.Fix, tt.fix)
			require.Equal(t, []string{"/containers/c1"}, f.removed, "the container is removed")
		})
	}
}

func TestGPUCheckHangs(t *testing.T) {
	t.Parallel()
	f := healthyEngine()
	f.hangStart = true
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	r := checks(t, f, Config{}).GPU().Run(ctx)
	require.Equal(t, preflight.Fail, r.Status)
	require.Contains(t, r.Details, "did not exit within")
	require.Equal(t, []string{"/containers/c1"}, f.removed, "also after the limit")
}

func TestPull(t *testing.T) {
	t.Parallel()
	t.Run("progress", func(t *testing.T) {
		t.Parallel()
		f := healthyEngine()
		f.images = map[string]string{}
		f.pull = func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, `{"status":"Downloading","id":"a","progressDetail":{"current":30000000,"total":90000000}}`)
			f.images[DefaultCUDAImage] = "amd64"
		}
		var lines []string
		r := checks(t, f, Config{Progress: func(l string) { lines = append(lines, l) }}).GPU().Run(t.Context())
		require.Equal(t, preflight.OK, r.Status, r.Details)
		require.Equal(t, []string{"pulling " + DefaultCUDAImage + ": 30 of 90 MB"}, lines)
	})
	for _, tt := range []struct {
		name string
		pull http.HandlerFunc
		want string
	}{
		{"unreachable registry", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"dial tcp: lookup registry.invalid: no such host"}`, 500)
		}, "the registry cannot be reached"},
		{"rejected in the stream", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}`)
		}, "manifest unknown"},
		{"silent before the first byte", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "the registry does not answer"},
		{"silent in the middle", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, `{"status":"Pulling fs layer","id":"a"}`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "the registry does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := healthyEngine()
			f.images, f.pull = nil, tt.pull
			start := time.Now()
			r := checks(t, f, Config{PullSilence: 200 * time.Millisecond}).GPU().Run(t.Context())
			require.Less(t, time.Since(start), 5*time.Second)
			require.Equal(t, preflight.Fail, r.Status)
			require.Contains(t, r.Details, tt.want)
			require.Contains(t, r.Fix, "docker pull")
			require.NotContains(t, r.Details, "NVIDIA runtime")

			f.info["Runtimes"] = map[string]any{"runc": map[string]any{}}
			r = checks(t, f, Config{PullSilence: 200 * time.Millisecond}).GPU().Run(t.Context())
			require.Contains(t, r.Details, "the engine also lists no NVIDIA runtime")
		})
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	f := healthyEngine()
	f.images = map[string]string{"kitt:latest": "arm64"}
	c := checks(t, f, Config{})
	r := c.Image().Run(t.Context())
	require.Equal(t, preflight.Warn, r.Status)
	require.Contains(t, r.Details, "is for arm64, and this machine is amd64")
	require.False(t, c.HasImage(t.Context()))

	r = checks(t, f, Config{Image: "kitt:mine"}).Image().Run(t.Context())
	require.Contains(t, r.Details, "the image kitt:mine is missing")
	require.Equal(t, "kitt-agent build", r.Fix)
	require.False(t, c.Image().Required())
}

func TestEngineDoesNotAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	silent, err := net.Listen("unix", filepath.Join(dir, "closed.sock"))
	require.NoError(t, err)
	silent.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, silent.Close())

	for _, tt := range []struct{ name, host, words, fix string }{
		{"no socket", "unix://" + filepath.Join(dir, "none.sock"), "there is no Docker engine", "install Docker"},
		{"nothing listens", "unix://" + filepath.Join(dir, "closed.sock"), "is not running", "systemctl start docker"},
		{"closed port", "tcp://127.0.0.1:1", "no Docker engine answers at tcp://127.0.0.1:1", "DOCKER_HOST"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cli, err := client.New(client.WithHost(tt.host))
			require.NoError(t, err)
			defer cli.Close()
			c, err := New(Config{Client: cli})
			require.NoError(t, err)
			results := preflight.Run(t.Context(), c.All(), nil)
			require.Equal(t, preflight.Fail, results[0].Status)
			require.Contains(t, results[0].Details, tt.words)
			require.Contains(t, results[0].Fix, tt.fix)
			for _, r := range results[1:] {
				require.Equal(t, preflight.Skip, r.Status, "one cause, one failure")
			}
		})
	}

	t.Run("no permission", func(t *testing.T) {
		t.Parallel()
		r := explainSocket("/run/docker.sock", os.ErrPermission)
		require.Contains(t, r.Details, "you may not use the Docker engine")
		require.Contains(t, r.Fix, "usermod -aG docker")
	})

	t.Run("too old", func(t *testing.T) {
		t.Parallel()
		f := healthyEngine()
		f.version = "1.38"
		r := checks(t, f, Config{}).Engine().Run(t.Context())
		require.Equal(t, preflight.Fail, r.Status)
		require.Contains(t, r.Details, "too old")
	})
}

func TestPinnedVersionIsNamed(t *testing.T) {
	t.Setenv("DOCKER_API_VERSION", "1.39")
	r := checks(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(400)
		fmt.Fprint(w, `{"message":"client version 1.39 is too old. Minimum supported API version is 1.44"}`)
	}), Config{}).Engine().Run(t.Context())
	require.Equal(t, preflight.Fail, r.Status)
	require.Contains(t, r.Fix, "unset DOCKER_API_VERSION")
}

func TestControlGroups(t *testing.T) {
	t.Parallel()
	rootless := []string{"name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"}
	configFile := func(text string) fstest.MapFS {
		return fstest.MapFS{"etc/nvidia-container-runtime/config.toml": {Data: []byte(text)}}
	}
	device := &fstest.MapFile{}
	for _, tt := range []struct {
		name   string
		root   fstest.MapFS
		engine engine
		want   preflight.Status
		words  string
	}{
		{"plain", fstest.MapFS{}, engine{cgroupDriver: "systemd", cgroupVersion: "2"}, preflight.OK, "driver systemd, version 2"},
		{"devices without links", fstest.MapFS{"dev/nvidiactl": device}, engine{cgroupDriver: "systemd"}, preflight.Warn, "daemon-reload"},
		{"devices with links", fstest.MapFS{"dev/nvidiactl": device, "dev/char/195:255": device}, engine{cgroupDriver: "systemd"}, preflight.OK, ""},
		{"cgroupfs", fstest.MapFS{"dev/nvidiactl": device}, engine{cgroupDriver: "cgroupfs"}, preflight.OK, ""},
		{"rootless as it should be", configFile("no-cgroups = true\n"), engine{security: rootless, cgroupDriver: "systemd"}, preflight.OK, ""},
		{"rootless", configFile("#no-cgroups = true\nno-cgroups = false"), engine{security: rootless}, preflight.Warn, "rootless"},
		{"root with no-cgroups", configFile("[nvidia-container-cli]\n  no-cgroups = true"), engine{cgroupDriver: "systemd"}, preflight.Warn, "no-cgroups"},
		{"userns-remap", fstest.MapFS{}, engine{security: []string{"name=userns"}}, preflight.Warn, "userns-remap"},
		{"none", fstest.MapFS{}, engine{cgroupDriver: "none"}, preflight.Warn, "no control groups"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := checkControlGroups(tt.root, tt.engine)
			require.Equal(t, tt.want, r.Status, r.Details)
			require.Contains(t, r.Details, tt.words)
			require.Equal(t, tt.want == preflight.Warn, r.Fix != "")
		})
	}
}

// TestRealEngine checks the engine of this machine, with an image that has a
// simulated nvidia-smi.
func TestRealEngine(t *testing.T) {
	cli, err := client.New(client.FromEnv)
	require.NoError(t, err)
	t.Cleanup(func() { cli.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := cli.Ping(ctx, client.PingOptions{}); err != nil {
		require.Empty(t, os.Getenv("KITT_TEST_DOCKER"), "Docker Engine: %v", err)
		t.Skip("no Docker Engine: ", err)
	}
	image := buildImage(ctx, t, cli)

	c, err := New(Config{Client: cli, Image: image, CUDAImage: image})
	require.NoError(t, err)
	results := preflight.Run(ctx, c.All(), nil)
	require.Equal(t, preflight.OK, results[0].Status, results[0].Details)
	require.Equal(t, preflight.OK, results[2].Status, results[2].Details)
	require.NotEqual(t, preflight.Fail, results[3].Status)

	// With or without a GPU runtime, the check ends with a clear result and
	// removes its container.
	gpu := results[1]
	if gpu.Status == preflight.Fail {
		require.NotEmpty(t, gpu.Fix)
		require.NotContains(t, gpu.Details, "did not exit within")
	} else {
		require.Equal(t, preflight.OK, gpu.Status, gpu.Details)
	}
	left, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("ancestor", image)})
	require.NoError(t, err)
	require.Empty(t, left.Items)

	// An image that is missing and cannot be pulled.
	c, err = New(Config{Client: cli, Image: "kitt-preflight-absent:1", CUDAImage: "registry.invalid/cuda:1", PullSilence: 5 * time.Second})
	require.NoError(t, err)
	r := c.GPU().Run(ctx)
	require.Equal(t, preflight.Fail, r.Status)
	require.Contains(t, r.Details, "the image registry.invalid/cuda:1 is missing and cannot be pulled")
}

// TestPodmanIgnoresRequests names Podman, which starts a container without its GPUs.
func TestPodmanIgnoresRequests(t *testing.T) {
	t.Parallel()
	f := healthyEngine()
	f.component, f.startErr = "Podman Engine", `exec: "nvidia-smi": executable file not found in $PATH`
	r := preflight.Run(t.Context(), []preflight.Check{checks(t, f, Config{}).GPU()}, nil)[0]
	require.Equal(t, preflight.Fail, r.Status)
	require.Equal(t, "Podman accepted the request for GPUs and started the container without them", r.Details)
	require.Contains(t, r.Fix, "use Docker")
}

// buildImage builds an image with one static program, named nvidia-smi.
func buildImage(ctx context.Context, t *testing.T, cli *client.Client) string {
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() { println(\"GPU 0: Simulated (UUID: GPU-0)\") }\n"), 0o600))
	program := filepath.Join(dir, "nvidia-smi")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	binary, err := os.ReadFile(program)
	require.NoError(t, err)

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, data := range map[string][]byte{
		"Dockerfile": []byte("FROM scratch\nENV PATH=/bin\nCOPY nvidia-smi /bin/nvidia-smi\n"),
		"nvidia-smi": binary,
	} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}))
		_, err := w.Write(data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	ref := fmt.Sprintf("kitt-preflight-test:%d", os.Getpid())
	result, err := cli.ImageBuild(ctx, &archive, client.ImageBuildOptions{Tags: []string{ref}, Remove: true, ForceRemove: true})
	require.NoError(t, err)
	text, err := io.ReadAll(result.Body)
	require.NoError(t, err)
	require.NoError(t, result.Body.Close())
	require.NotContains(t, string(text), `"error"`)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := cli.ImageRemove(ctx, ref, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		require.NoError(t, err)
	})
	return ref
}
