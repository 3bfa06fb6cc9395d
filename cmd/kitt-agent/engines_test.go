package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	native "github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// cli runs a command of the daemon's program next to it.
func (d *daemon) cli(args ...string) outcome {
	d.t.Helper()
	var out, errOut basetest.Buffer
	cmd := exec.Command(d.prog.path, args...)
	cmd.Env = append(os.Environ(), "KITT_HOME="+d.home, "PATH="+d.prog.bin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = &out, &errOut
	_ = cmd.Run() // its status says it
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// llama returns what `engines list` says of llama_cpp.
func (d *daemon) llama() heartbeat.Engine {
	d.t.Helper()
	got := d.cli("engines", "list", "--json")
	require.Zero(d.t, got.code, got.err)
	var all []heartbeat.Engine
	require.NoError(d.t, json.Unmarshal([]byte(got.out), &all))
	for _, e := range all {
		if e.Engine == "llama_cpp" {
			return e
		}
	}
	require.Fail(d.t, "llama_cpp is not listed", got.out)
	return heartbeat.Engine{}
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func answers(port int) bool {
	answer, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/health")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// An engine is started and stopped from the command line, and outlives three agents that
// are killed.
func TestEnginesOutliveKilledAgents(t *testing.T) {
	t.Parallel()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	server.AddAgent("chaos")
	models := t.TempDir()
	model := filepath.Join(models, "fake:print=1MiB,deaf") // what the program that plays llama-server does
	require.NoError(t, os.WriteFile(model, []byte("weights"), 0o600))
	d := newDaemon(t, buildProgram(t), server.URL, "process", "model_storage_dir: "+models)
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	_, err = runnertest.BuildFakeLlamaServer(d.prog.bin)
	require.NoError(t, err)
	require.Equal(t, "4567 (fake)", d.llama().Version)
	port := freePort(t)

	got := d.cli("engines", "start", "llama_cpp", "--model", model, "--set", "port="+strconv.Itoa(port), "--set", "n_ctx=4096")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "Agent starting engine: llama_cpp")
	require.Contains(t, got.out, "llama_cpp is healthy after")
	require.Contains(t, got.out, "Start of the engine completed")
	require.True(t, answers(port))
	pid := d.llama().PID
	t.Cleanup(func() { _ = d.cli("engines", "stop", "llama_cpp") })

	for range 3 {
		d.kill()
		require.True(t, answers(port), "it goes on without an agent")
		d.start()
		require.Eventually(t, func() bool { e := d.llama(); return e.Running && e.PID == pid && e.Port == port }, time.Minute, 50*time.Millisecond)
	}
	got = d.cli("engines", "start", "llama_cpp", "--set", "port="+strconv.Itoa(port))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, fmt.Sprintf("llama_cpp runs already, on port %d (kitt-agent engines stop llama_cpp)", port))
	got = d.cli("engines", "logs", "llama_cpp", "--tail", "2")
	require.Zero(t, got.code, got.err)
	require.Equal(t, 2, strings.Count(got.out, "\n"))
	require.Contains(t, got.out, "server is listening on http://127.0.0.1:"+strconv.Itoa(port))

	got = d.cli("engines", "stop", "llama_cpp", "--json")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, `"status": "completed"`)
	require.False(t, native.PortTaken(port))
	got = d.cli("engines", "list")
	require.Contains(t, got.out, "installed")
	require.Contains(t, got.out, filepath.Join(d.prog.bin, "llama-server"))

	got = d.cli("engines", "install", "llama_cpp")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "policy: {engines: {install: [llama_cpp]}}")
}

func TestEnginesWithoutAnAgent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("name: a\nserver_url: http://127.0.0.1:1\nport: 1\n")
	got := m.run("engines", "list")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "llama_cpp")
	got = m.run("engines", "logs", "llama_cpp")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "this agent has not started llama_cpp yet")
	got = m.run("engines", "logs", "mlx")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "is not one of llama_cpp, ollama, vllm")
	got = m.run("engines", "stop", "llama_cpp")
	require.Equal(t, exitNotRunning, got.code)
	require.Contains(t, got.err, "not running")
}
