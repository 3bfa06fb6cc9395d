package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// testedAgent is a control plane, the settings of an agent of it, and a way to
// run that agent.
type testedAgent struct {
	server *kittapitest.Server
	home   string
	port   int
}

func newTestedAgent(t *testing.T) *testedAgent {
	t.Helper()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	server.AddAgent("gpu-01")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	a := &testedAgent{server: server, home: t.TempDir(), port: listener.Addr().(*net.TCPAddr).Port}
	require.NoError(t, listener.Close())
	config := fmt.Sprintf("name: gpu-01\nserver_url: %s\nport: %d\nlisten: 127.0.0.1\n", server.URL, a.port)
	require.NoError(t, os.WriteFile(filepath.Join(a.home, "agent.yaml"), []byte(config), 0o600))
	return a
}

// run runs the agent until the test ends, with benchmarks that hang.
func (a *testedAgent) run(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	require.NoError(t, err)
	hang, err := simulated.ParseScenario("hang=middle")
	require.NoError(t, err)
	benchmarks, err := simulated.New(simulated.Config{Scenario: hang})
	require.NoError(t, err)
	api, err := kittapi.New(kittapi.Config{URL: a.server.URL})
	require.NoError(t, err)
	agent, err := agent.New(agent.Config{Name: "gpu-01", Dir: a.home, Server: api, Runner: benchmarks, Listener: listener})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// command runs a command line and returns what it printed and its exit code.
func (a *testedAgent) command(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr basetest.Buffer
	env := &environment{stdout: &stdout, stderr: &stderr, getenv: func(name string) string {
		if name == "KITT_HOME" {
			return a.home
		}
		return ""
	}}
	code = env.run(t.Context(), args)
	return stdout.String() + stderr.String(), code
}

func TestTestList(t *testing.T) {
	a := newTestedAgent(t)
	out, code := a.command(t, "test", "list")
	require.Zero(t, code, out)
	require.Equal(t, "No tests.\n", out)
	a.server.AddAgent("other")
	first, _, err := a.server.Launch("gpu-01", "/mnt/models/meta-llama/Llama-3.1-405B-Instruct-FP8-dynamic")
	require.NoError(t, err)
	_, _, err = a.server.Launch("other", "not-mine")
	require.NoError(t, err)
	second, _, err := a.server.Launch("gpu-01", "qwen2.5:7b")
	require.NoError(t, err)
	a.server.SetStatus(first, "failed", "Exit 1")

	out, code = a.command(t, "test", "list")
	require.Zero(t, code, out)
	require.Contains(t, out, first)
	require.Contains(t, out, "Exit 1")
	require.Contains(t, out, "405B-Instruct-FP8-dynamic")
	require.NotContains(t, out, "not-mine")
	row, _ := a.server.Test(first)
	require.Contains(t, out, "  "+row.CreatedAt[:len("2026-11-25T18:47:31")]+"  ")

	out, _ = a.command(t, "test", "list", "--status", "queued")
	require.Contains(t, out, second)
	require.NotContains(t, out, first)

	out, _ = a.command(t, "test", "list", "--limit", "1", "--json")
	var page kittapi.TestPage
	require.NoError(t, json.Unmarshal([]byte(out), &page))
	require.Len(t, page.Items, 1)
	require.Equal(t, 2, page.Total)

	out, code = a.command(t, "test", "list", "--limit", "0")
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, "from 1 to 100")
	out, code = a.command(t, "test", "list", "--status", "runing")
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, `--status is "runing", not one of queued, dispatched, running, completed, failed`)
}

func TestTestStopOfARunningTest(t *testing.T) {
	a := newTestedAgent(t)
	id, _, err := a.server.Launch("gpu-01", "qwen2.5:7b")
	require.NoError(t, err)
	a.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, a.server.WaitForStatus(ctx, id, "running"))
	out, code := a.command(t, "test", "stop", id)
	require.Zero(t, code, out)
	require.Contains(t, out, "The agent has stopped it.\nThe server shows it as failed: Cancelled by user.\n")
	row, _ := a.server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "failed"}, row.History, "one end")

	out, code = a.command(t, "test", "stop", id)
	require.Zero(t, code)
	require.Contains(t, out, "has ended already: failed")
}

// A command that was given to the agent here has no test at the server. Its id stops it,
// as commands that were interrupted advise.
func TestTestStopOfAJobThatTheServerDoesNotKnow(t *testing.T) {
	a := newTestedAgent(t)
	a.run(t)
	api, err := client.New(client.Config{URL: fmt.Sprintf("http://127.0.0.1:%d", a.port)})
	require.NoError(t, err)
	_, err = api.Command(t.Context(), client.Command{Type: agent.TypeRunTest, ID: "local-1", Payload: map[string]any{"model_path": "m", "engine_name": "vllm", "suite_name": "quick"}})
	require.NoError(t, err)
	out, code := a.command(t, "test", "stop", "local-1")
	require.Zero(t, code, out)
	require.Equal(t, "The agent has stopped it. The server knows nothing of this job.\n", out)
	out, code = a.command(t, "test", "stop", "local-2")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, `the server has no test "local-2"`)
}

// TestTestStopOfATestThatGoesOn has an agent that can't be sure that it has ended the
// test: nobody is told that it has.
func TestTestStopOfATestThatGoesOn(t *testing.T) {
	a := newTestedAgent(t)
	id, _, err := a.server.Launch("gpu-01", "qwen2.5:7b")
	require.NoError(t, err)
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	require.NoError(t, err)
	api := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"stopped":false,"command_id":"c1","error":"The job is still being stopped"}`)
	})}
	served := make(chan error, 1)
	go func() { served <- api.Serve(listener) }()
	defer func() {
		require.NoError(t, api.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}()
	out, code := a.command(t, "test", "stop", id)
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "has not stopped it yet: The job is still being stopped")
	row, _ := a.server.Test(id)
	require.Equal(t, "queued", row.Status)
}

func TestTestStopWithoutAnAgent(t *testing.T) {
	a := newTestedAgent(t)
	id, _, err := a.server.Launch("gpu-01", "qwen2.5:7b")
	require.NoError(t, err)
	out, code := a.command(t, "test", "stop", id)
	require.Zero(t, code, out)
	require.Equal(t, "The agent is not running here.\nThe server was told: failed, Cancelled by user.\n", out)
	row, _ := a.server.Test(id)
	require.Equal(t, "failed", row.Status)
	require.Equal(t, "Cancelled by user", row.Error)
}

func TestTestStopRefusesWhatIsNotOurs(t *testing.T) {
	a := newTestedAgent(t)
	a.server.AddAgent("other")
	id, _, err := a.server.Launch("other", "m")
	require.NoError(t, err)
	_, _, err = a.server.Launch("gpu-01", "m")
	require.NoError(t, err)
	out, code := a.command(t, "test", "stop", id)
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "belongs to another agent")
	row, _ := a.server.Test(id)
	require.Equal(t, "queued", row.Status)
	out, code = a.command(t, "test", "stop", "nope")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "the server has no test")
	out, code = a.command(t, "test", "stop", id, "--json")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, `"test_id"`)
	_, code = a.command(t, "test", "stop")
	require.Equal(t, exitUsage, code)
}
