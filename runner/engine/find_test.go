package engine_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// llama is the path of the program that plays llama-server.
var llama string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "kitt-engine")
	if err == nil {
		llama, err = runnertest.BuildFakeLlamaServer(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
}

// state returns what is known of one engine.
func state(t testing.TB, f *engine.Finder, name string) (engine.Status, bool) {
	t.Helper()
	all, err := f.Detect(t.Context())
	require.NoError(t, err)
	for _, s := range all {
		if s.Name == name {
			return s, true
		}
	}
	return engine.Status{}, false
}

func TestAMachineWithoutEngines(t *testing.T) {
	t.Parallel()
	f := engine.NewFinder(engine.FinderConfig{Path: t.TempDir(), Home: t.TempDir()})
	all, err := f.Detect(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3, "exllamav2 and mlx are reported where they are found")
	for _, s := range all {
		require.False(t, s.Installed, s.Name) // other tests may run one
		require.NotZero(t, s.Port)
	}
	_, err = f.Find(spec(t, "llama_cpp"))
	require.EqualError(t, err, "the engine llama_cpp is not installed on this machine: there is no llama-server in PATH (install it, or choose engine_mode docker)")
	_, err = f.Find(spec(t, "vllm"))
	require.ErrorContains(t, err, "no Python environment has the package vllm")
}

// A version is asked for once, as long as the program stays the same, and an engine that
// vanishes is reported as not installed.
func TestAVersionIsAskedForOnce(t *testing.T) {
	t.Parallel()
	path, home := t.TempDir(), t.TempDir()
	asked, ollama := filepath.Join(home, "asked"), filepath.Join(path, "ollama")
	write(t, ollama, "#!/bin/sh\necho x >>"+asked+"\necho 'Warning: could not connect to a running Ollama instance'\necho 'Warning: client version is 0.5.1'\n")
	f := engine.NewFinder(engine.FinderConfig{Path: path, Home: home})
	for range 3 {
		s, _ := state(t, f, "ollama")
		require.Equal(t, engine.Status{Name: "ollama", Installed: true, Path: ollama, Version: "0.5.1", Port: 11434}, s)
	}
	text, err := os.ReadFile(asked)
	require.NoError(t, err)
	require.Equal(t, "x\n", string(text))

	write(t, ollama, "#!/bin/sh\necho ollama version is 0.6.0-rc1\n")
	s, _ := state(t, f, "ollama")
	require.Equal(t, "0.6.0-rc1", s.Version)
	require.NoError(t, os.Remove(ollama))
	s, _ = state(t, f, "ollama")
	require.Equal(t, engine.Status{Name: "ollama", Port: 11434}, s)
}

// A program that doesn't print its version holds nothing up for long, and leaves no
// process behind.
func TestAProgramThatDoesNotSayItsVersion(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	write(t, filepath.Join(path, "ollama"), "#!/bin/sh\nsleep 1000 &\nwait\n")
	f := engine.NewFinder(engine.FinderConfig{Path: path, Home: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := f.Detect(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// Python packages are found without starting Python, which takes seconds to import one.
func TestPackages(t *testing.T) {
	t.Parallel()
	path, home := t.TempDir(), t.TempDir()
	python := filepath.Join(home, ".kitt/vllm-venv/bin/python")
	write(t, python, "#!/bin/sh\nexit 1\n")
	site := filepath.Join(home, ".kitt/vllm-venv/lib/python3.12/site-packages")
	write(t, filepath.Join(site, "vllm/__init__.py"), "")
	write(t, filepath.Join(site, "vllm-0.11.0+cu129.dist-info/METADATA"), "")
	f := engine.NewFinder(engine.FinderConfig{Path: path, Home: home})
	s, _ := state(t, f, "vllm")
	require.Equal(t, engine.Status{Name: "vllm", Installed: true, Path: python + " -m vllm", Version: "0.11.0+cu129", Port: 8000}, s)
	found, err := f.Find(spec(t, "vllm"))
	require.NoError(t, err)
	require.Equal(t, []string{python, "-m", "vllm.entrypoints.openai.api_server"}, found.Command)

	// That of the kitt command counts too.
	_, reported := state(t, f, "mlx")
	require.False(t, reported)
	python = filepath.Join(home, "pipx/kitt/bin/python")
	write(t, python, "#!/bin/sh\nexit 1\n")
	write(t, filepath.Join(path, "kitt"), "#!"+python+"\nimport kitt\n")
	write(t, filepath.Join(home, "pipx/kitt/lib/python3.11/site-packages/mlx_lm/__init__.py"), "")
	s, reported = state(t, f, "mlx")
	require.True(t, reported)
	require.True(t, s.Installed)
	require.NoError(t, os.RemoveAll(filepath.Join(home, "pipx")))
	s, reported = state(t, f, "mlx")
	require.True(t, reported, "the server keeps what it was told, so it is told that it is gone")
	require.False(t, s.Installed)
}

// What an agent installed comes before what PATH has.
func TestWhatAnAgentInstalledComesFirst(t *testing.T) {
	t.Parallel()
	path, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(path, "llama-server"), "#!/bin/sh\necho version: 1\n")
	installed := filepath.Join(dir, "llama_cpp", engine.Current, "build/bin/llama-server")
	write(t, installed, "#!/bin/sh\necho version: 2\n")
	f := engine.NewFinder(engine.FinderConfig{Dir: dir, Path: path, Home: t.TempDir()})
	s, _ := state(t, f, "llama_cpp")
	require.Equal(t, installed, s.Path)
	require.Equal(t, "2", s.Version)
}

// An engine that somebody else runs is running where it listens, and not because a
// process has its name.
func TestAnEngineThatSomebodyElseRuns(t *testing.T) {
	t.Parallel()
	f := engine.NewFinder(engine.FinderConfig{Path: filepath.Dir(llama), Home: t.TempDir()})
	s, _ := state(t, f, "llama_cpp")
	require.Equal(t, "4567 (fake)", s.Version)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.True(t, engine.PortTaken(port))
	require.NoError(t, listener.Close())
	own := filepath.Join(t.TempDir(), "llama-of-test") // others run tests on this machine too
	require.NoError(t, os.Link(llama, own))
	cmd := exec.Command(own, "--port", strconv.Itoa(port), "--host", "127.0.0.1")
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	require.Eventually(t, func() bool {
		pid, where, running := engine.Serving(engine.Spec{Program: "llama-of-test", Port: 8081})
		return running && pid == cmd.Process.Pid && where == port
	}, 10*time.Second, 20*time.Millisecond)
	pid, ok := engine.ListensOn(port, os.Getpid())
	require.True(t, ok)
	require.Equal(t, cmd.Process.Pid, pid)
	_, ok = engine.ListensOn(port, 1<<22)
	require.False(t, ok)
}

func ExampleSpec_Parse() {
	llama, _ := engine.Lookup("llama_cpp")
	settings, err := llama.Parse([]byte(`{"port": 8090, "n_ctx": 4096}`))
	fmt.Println(settings.Args, err)
	_, err = llama.Parse([]byte(`{"host": "0.0.0.0"}`))
	fmt.Println(err)
	// Output:
	// [--ctx-size 4096] <nil>
	// runtime_config of llama_cpp: "host" is not one of port, n_gpu_layers, n_ctx, n_batch, threads, flash_attn
}
