package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// controlPlane returns a server for virtual agents.
func controlPlane(t *testing.T, cfg kittapitest.Config) *kittapitest.Server {
	t.Helper()
	server, err := kittapitest.NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// Virtual agents run the tests that are launched on them, and the command ends
// with a summary that says so.
func TestSimulateRunsJobs(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{AuthToken: "operator"})
	m := newMachine(t)
	m.vars["KITT_TOKEN"] = "agents"
	m.vars["KITT_SERVER_TOKEN"] = "operator"
	dir := filepath.Join(t.TempDir(), "jobs")
	got := m.run("simulate", "--server", server.URL, "--profile", "h100-8=6", "--profile", "l4-1", "--count", "2",
		"--jobs", "2", "--speed", "0", "--ramp", "100ms", "--dir", dir, "--json")
	require.Equal(t, exitOK, got.code, got.err)
	var r simulateReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &r))
	require.Equal(t, 8, r.Agents)
	require.EqualValues(t, 16, r.Launched)
	require.EqualValues(t, 16, r.JobsCompleted)
	require.True(t, r.Check.OK())
	require.Equal(t, 16, r.Check.Jobs)
	require.False(t, r.Interrupted)
	require.Len(t, server.Results(), 16)
	require.Contains(t, got.err, "8 agents, jobs in "+dir)
	jobs, err := filepath.Glob(filepath.Join(dir, "sim-l4-1-0002", "jobs", "*", "job.json"))
	require.NoError(t, err)
	require.Len(t, jobs, 2)
	for _, secret := range []string{"operator", `"agents"`} {
		require.NotContains(t, got.err, secret)
	}
}

// The hardware of the flags is what the server is told, and a scenario's end is
// no failure of the command's.
func TestSimulateHardwareAndScenario(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	got := newMachine(t).run("simulate", "--server", server.URL, "--jobs", "1", "--speed", "0", "--scenario", "fail-at=throughput,exit=9",
		"--prefix", "x", "--profile", "cpu-only", "--gpu", "NVIDIA L40S", "--gpus", "4", "--cpu", "Xeon", "--arch", "arm64", "--ram", "96", "--environment", "docker")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "1 started, 0 completed, 1 failed")
	require.Contains(t, got.out, "0 lines lost")
	a, ok := server.Agent("x-cpu-only-0001")
	require.True(t, ok)
	require.EqualValues(t, 4, a.Fields["gpu_count"])
	require.Contains(t, a.Fields["gpu_info"], "NVIDIA L40S")
	require.Equal(t, "Xeon", a.Fields["cpu_info"])
	require.Equal(t, "arm64", a.Fields["cpu_arch"])
	require.EqualValues(t, 96, a.Fields["ram_gb"])
	require.Equal(t, "docker", a.Fields["environment_type"])
	require.Equal(t, "Exit 9: the scenario wanted it", server.Tests()[0].Error)
}

// A file describes a fleet of several kinds; flags for the whole fleet go before
// what it says.
func TestSimulateFleetFile(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	m := newMachine(t)
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	require.NoError(t, os.WriteFile(file, []byte("prefix: lab\nspeed: 1\nagents:\n- profile: l4-1\n  count: 2\n- name: bad\n  count: 1\n  scenario: exit=4\n"), 0o600))
	got := m.run("simulate", "--server", server.URL, "--fleet", file, "--jobs", "1", "--speed", "0", "--ramp", "10ms")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "3 started, 2 completed, 1 failed")
	_, ok := server.Agent("lab-bad-0001")
	require.True(t, ok)

	m.in = strings.NewReader("agents: [{profile: a100-1, count: 1}]")
	got = m.run("simulate", "--server", server.URL, "--fleet", "-", "--jobs", "1", "--speed", "0")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "1 started, 1 completed, 0 failed")

	got = m.run("simulate", "--server", server.URL, "--fleet", file, "--gpu", "H100")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, "--fleet and --gpu exclude each other")
	require.NoError(t, os.WriteFile(file, []byte("agents:\n- profil: l4-1\n"), 0o600))
	got = m.run("simulate", "--server", server.URL, "--fleet", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "line 2: field profil not found")
}

// Ctrl-C stops the agents: what ran is reported, a summary comes, the directory
// goes.
func TestSimulateInterrupted(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	temp := t.TempDir()
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errOut bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(string) string { return "" }}
	done := make(chan int, 1)
	go func() {
		done <- env.run(ctx, []string{"simulate", "--server", server.URL, "--count", "3", "--profile", "l4-1",
			"--scenario", "hang", "--jobs", "1", "--speed", "0", "--dir", temp})
	}()
	require.Eventually(t, func() bool {
		running := 0
		for _, test := range server.Tests() {
			if test.Status == "running" {
				running++
			}
		}
		return running == 3
	}, time.Minute, 10*time.Millisecond)
	interrupt()
	require.Equal(t, exitOK, <-done, errOut.String())
	require.Contains(t, out.String(), "3 started, 0 completed, 3 failed")
	for _, test := range server.Tests() {
		require.Equal(t, "failed", test.Status)
		require.Contains(t, test.Error, "the agent was stopped")
	}
}

// What was made in a directory of its own is gone at the end.
func TestSimulateLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	server := controlPlane(t, kittapitest.Config{})
	got := newMachine(t).run("simulate", "--server", server.URL, "--duration", "200ms", "--count", "2")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "2, 2 registered")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A server that takes no launches, or takes no agents, is said to do so.
func TestSimulateRefused(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{AuthToken: "operator"})
	got := newMachine(t).run("simulate", "--server", server.URL, "--jobs", "1")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "the server launches no tests for --jobs")
	require.Contains(t, got.err, "server_token")

	server.SetDown(true)
	got = newMachine(t).run("simulate", "--server", server.URL, "--duration", "300ms")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "no agent could register")
}

func TestSimulateUsage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for want, args := range map[string][]string{
		"--server is missing":          {},
		"--count is 0":                 {"--server", "http://x", "--count", "0"},
		`"many" is not a number`:       {"--server", "http://x", "--profile", "l4-1=many"},
		`there is no profile "h1000"`:  {"--server", "http://x", "--profile", "h1000"},
		"--scenario: unknown word":     {"--server", "http://x", "--scenario", "meh"},
		"--speed is -1":                {"--server", "http://x", "--speed", "-1"},
		"--jobs is -1":                 {"--server", "http://x", "--jobs", "-1"},
		"--in-flight is 0":             {"--server", "http://x", "--in-flight", "0"},
		"--duration and --ramp cannot": {"--server", "http://x", "--duration", "-1s"},
		`"Voodoo" is not known`:        {"--server", "http://x", "--gpu", "Voodoo"},
		"too many arguments":           {"more"},
		"it is not from 10 to 300":     {"--server", "http://x", "--interval", "1s"},
	} {
		got := m.run(append([]string{"simulate"}, args...)...)
		require.Equal(t, exitUsage, got.code, "%v: %s", args, got.err)
		require.Contains(t, got.err, want)
		require.Contains(t, got.err, "try: kitt-agent simulate", "%v", args)
		require.Empty(t, got.out)
	}
	require.Contains(t, m.run("simulate", "--profile", "help").out, "random\nh100-8\n")
}

// What a person sees of a fleet holds its figures, and nothing that a server says
// reaches the terminal as an order.
func TestFleetView(t *testing.T) {
	t.Parallel()
	server := controlPlane(t, kittapitest.Config{})
	server.SetFault(kittapitest.Always(kittapitest.Fault{Status: 400, Body: `{"error": "no \u001b]0;title\u0007 entry"}`, Type: "application/json"}))
	client, err := kittapi.New(kittapi.Config{URL: server.URL})
	require.NoError(t, err)
	f, err := fleet.New(fleet.Config{Server: client, Dir: t.TempDir(), Ramp: -1, Groups: []fleet.Group{{Count: 3}}})
	require.NoError(t, err)
	v := &fleetView{fleet: f}
	v.sample()
	require.Equal(t, []string{
		"agents 0 of 3 online", "jobs 0 running, 0 completed, 0 failed", "log 0 lines/s, 0 lines",
		"server 0 requests/s, p50 0 µs, p99 0 µs, 0 errors",
	}, v.plain())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	require.Eventually(t, func() bool { return f.Stats().Errors == 3 }, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	v.sample()
	last := v.plain()[3]
	require.Contains(t, last, "3 errors, last: POST /agents/register: no")
	require.NotContains(t, last, "\x1b")
	require.NotContains(t, last, "\a")
	require.Equal(t, "950 µs", brief(950*time.Microsecond))
	require.Equal(t, "1500 ms", brief(1500*time.Millisecond))
	require.Equal(t, "12.5 s", brief(12500*time.Millisecond))
}
