package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
	"github.com/kirizan/kitt-agent/hwdetect/nvml"
)

var update = flag.Bool("update", false, "rewrite the files of expected output")

// Variables that make this test binary an agent that only knows how to stop.
const (
	standInEnv   = "KITT_TEST_STAND_IN"    // its home
	standInKinds = "KITT_TEST_STAND_IN_AS" // "stubborn" ignores SIGTERM
)

func TestMain(m *testing.M) {
	if home := os.Getenv(standInEnv); home != "" {
		os.Exit(standIn(home, os.Getenv(standInKinds)))
	}
	var err error
	if builtIn, err = os.MkdirTemp("", "kitt-agent-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(builtIn)
		os.Exit(code)
	}))
}

// standIn holds the PID file and serves what of the API stop needs, until it is
// told to stop.
func standIn(home, kind string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if kind == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	file, err := pidfile.Acquire(filepath.Join(home, "agent.pid"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/api/stop" || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"error":"Unauthorized"}`, http.StatusUnauthorized)
			return
		}
		if err := os.WriteFile(filepath.Join(home, "asked"), body, 0o600); err != nil {
			return
		}
		_, _ = io.WriteString(w, `{"stopping":true,"running":1}`)
		stop()
	})}
	go func() { _ = server.Serve(listener) }()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	<-ctx.Done()
	_ = server.Shutdown(context.Background())
	if file.Release() != nil {
		return 1
	}
	return 0
}

// A machine is a home of an agent to run commands in.
type machine struct {
	t    *testing.T
	home string
	vars map[string]string
	in   io.Reader
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	home := t.TempDir()
	return &machine{t: t, home: home, vars: map[string]string{"KITT_HOME": home}, in: strings.NewReader("")}
}

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// run runs one command line.
func (m *machine) run(args ...string) outcome {
	m.t.Helper()
	var out, errOut bytes.Buffer
	env := &environment{stdin: m.in, stdout: &out, stderr: &errOut, getenv: func(name string) string { return m.vars[name] }}
	code := env.run(m.t.Context(), args)
	return outcome{code, out.String(), errOut.String()}
}

// write writes the machine's agent.yaml.
func (m *machine) write(text string) {
	m.t.Helper()
	require.NoError(m.t, os.WriteFile(filepath.Join(m.home, "agent.yaml"), []byte(text), 0o600))
}

func (m *machine) read() string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.home, "agent.yaml"))
	require.NoError(m.t, err)
	return string(text)
}

// serve serves the agent's API for the machine.
func (m *machine) serve(handler http.HandlerFunc) *httptest.Server {
	m.t.Helper()
	server := httptest.NewServer(handler)
	m.t.Cleanup(server.Close)
	m.write(fmt.Sprintf("name: gpu-1\nserver_url: http://kitt:8080\ntoken: secret\nport: %d\n", portOf(m.t, server.URL)))
	return server
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return port
}

func TestUsage(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"sttus"}, `there is no command "sttus"; did you mean status?`},
		{[]string{"status", "--jsno"}, "try: kitt-agent status --help"},
		{[]string{"status", "extra"}, `too many arguments: "extra"`},
		{[]string{"logs", "a", "b"}, `too many arguments: "b"`},
		{[]string{"logs", "--tail", "-1"}, "--tail is -1, not from 0 to"},
		{[]string{"models", "verify", "a", "b"}, `too many arguments: "b"`},
		{[]string{"start", "--port", "abc"}, "try: kitt-agent start --help"},
		{[]string{"demo", "--suite", "nope"}, `--suite is "nope", not quick, performance or standard`},
		{[]string{"simulate", "--server", "http://x", "--suite", "nope"}, `--suite is "nope", not quick, performance or standard`},
		{[]string{"stop", "--cancel", "--drain"}, "exclude each other"},
		{[]string{"stop", "--timeout", "soon"}, "try: kitt-agent stop --help"},
		{[]string{"start", "--port", "0"}, `port: "0" does not work: it is out of range`},
		{[]string{"start", "--server", "kitt"}, "try: kitt-agent start --help"},
		{[]string{"preflight", "--server", "kitt"}, `server_url: "kitt" does not work`},
		{[]string{"init"}, "--server is missing"},
		{[]string{"test"}, "list or stop is missing"},
		{[]string{"models"}, "list, pull, rm or verify is missing"},
		{[]string{"models", "lst"}, `there is no command models "lst"; did you mean list?`},
		{[]string{"help", "sttus"}, `there is no command "sttus"; did you mean status?`},
		{[]string{"help", "models", "fly"}, `there is no command models "fly"`},
		{[]string{"completion"}, "bash, fish, powershell or zsh is missing"},
		{[]string{"completion", "ksh"}, `there is no command completion "ksh"`},
		{[]string{"init", "--server", "http://x", "--token", "a", "--new-token"}, "exclude each other"},
	}
	for _, tt := range tests {
		got := m.run(tt.args...)
		require.Equal(t, exitUsage, got.code, "%v: %s", tt.args, got.err)
		require.Contains(t, got.err, tt.want)
		require.Contains(t, got.err, "try: kitt-agent", "%v", tt.args)
		require.Empty(t, got.out)
	}
}

func TestHelpHasExamples(t *testing.T) {
	t.Parallel()
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		require.NotEmpty(t, cmd.Example, cmd.CommandPath())
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		for _, child := range cmd.Commands() {
			check(child)
		}
	}
	check(newRootCommand(&environment{}))
	got := newMachine(t).run("--help")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.out, "Exit codes: 0 done, 1 failed, 2 usage error, 3 the agent is not running, 4 it runs but\nsomething keeps it from its work or soon will, 5 and 6 what results compare found, and 100 if")
}

func TestBrokenSettings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("port: x\n")
	for _, args := range [][]string{{"status"}, {"stop"}, {"logs", "x"}} {
		got := m.run(args...)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, `agent.yaml:1: port: "x" does not work: it is no whole number; allowed is 1 to 65535`)
	}
}

// What a --config names and isn't there is no reason to look for another agent.
func TestMissingSettings(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	missing := filepath.Join(m.home, "agnet.yaml")
	for _, args := range [][]string{{"status"}, {"stop"}, {"start"}} {
		got := m.run(append(args, "--config", missing)...)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, "there is no "+missing+"\nkitt-agent: try: kitt-agent init --config "+missing)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	got := m.run("version", "--json")
	require.Equal(t, exitOK, got.code)
	var b buildInfo
	require.NoError(t, json.Unmarshal([]byte(got.out), &b))
	require.NotEmpty(t, b.Version)
	require.NotEmpty(t, b.Go)
	require.Contains(t, m.run("version").out, "kitt-agent "+b.Version)
	require.Equal(t, nvml.Available, b.NVML)
	require.Equal(t, nvml.Available, strings.HasSuffix(m.run("version").out, ", with NVML\n"))
	require.NotEqual(t, nvml.Available, strings.HasSuffix(m.run("version").out, ", without NVML\n"))
	require.Equal(t, m.run("version"), m.run("--version"))
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		got := newMachine(t).run("completion", shell)
		require.Equal(t, exitOK, got.code)
		require.Contains(t, got.out, "kitt-agent")
	}
}
