package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// healthy serves a KITT server that is well, and returns its address.
func healthy(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/health" || r.Header.Get("Authorization") != "" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestInit(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := healthy(t)
	got := m.run("init", "--server", server, "--token", strings.Repeat("0", 64), "--name", "gpu 7", "--port", "9000",
		"--model-dir", "/data/models", "--share-source", "nas:/volume1/models", "--share-mount", "/mnt/models")
	require.Equal(t, exitOK, got.code, got.err)
	require.Empty(t, got.err)
	require.Contains(t, got.out, "agent.yaml written: agent \"gpu 7\" of "+server+", which answers")
	require.Contains(t, got.out, "kitt-agent start")
	require.NotContains(t, got.out, "0000")
	require.Equal(t, "name: gpu 7\nserver_url: "+server+"\ntoken: \""+strings.Repeat("0", 64)+
		"\"\nport: 9000\nmodel_storage_dir: /data/models\nmodel_share_source: nas:/volume1/models\nmodel_share_mount: /mnt/models\n", m.read())
	info, err := os.Stat(filepath.Join(m.home, "agent.yaml"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// A second time only what was given changes.
	before := m.read()
	got = m.run("init", "--name", "gpu-8")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "agent.yaml changed")
	require.Equal(t, strings.Replace(before, "gpu 7", "gpu-8", 1), m.read())
}

func TestInitWarns(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	got := m.run("init", "--server", "http://127.0.0.1:1", "--json")
	require.Equal(t, exitOK, got.code, got.err)
	var report initReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.True(t, report.Created)
	require.False(t, report.Reachable)
	require.Contains(t, report.ServerError, "connection refused")
	require.Len(t, report.Warnings, 2)
	require.Contains(t, report.Warnings[1], "the agent has no token")
	require.Equal(t, []string{"kitt-agent start"}, report.Next)

	got = m.run("init", "--token", "short", "--insecure")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, "the token is short")
	require.Contains(t, got.err, "the server's certificate was not verified")

	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	require.Contains(t, m.run("init", "--server", page.URL).err, "is no KITT server (HTTP 404)")
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--name", ""}, "--name is empty"},
		{[]string{"--name", "a/b"}, `--name: "a/b" does not work: it has a slash`},
		{[]string{"--port", "0"}, `--port: "0" does not work: it is out of range; allowed is 1 to 65535`},
		{[]string{"--server", "server"}, "--server: \"server\" does not work"},
		{[]string{"--token", "a b"}, "--token: it holds blanks"},
		{[]string{"--model-dir", "models"}, "--model-dir"},
	}
	for _, tt := range tests {
		m := newMachine(t)
		got := m.run(append([]string{"init", "--server", "http://127.0.0.1:1"}, tt.args...)...)
		require.Equal(t, exitUsage, got.code, "%v", tt.args)
		require.Contains(t, got.err, tt.want)
		require.Contains(t, got.err, "try: kitt-agent init")
		require.NoFileExists(t, filepath.Join(m.home, "agent.yaml"))
	}
}

func TestInitNamesVariables(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.vars["KITT_PORT"] = "http"
	got := m.run("init", "--server", "http://127.0.0.1:1")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.err, `KITT_PORT: "http" does not work`)
}

func TestInitTokens(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := healthy(t)
	token := func() string {
		c, _, err := config.Sources{Path: filepath.Join(m.home, "agent.yaml"), Getenv: func(name string) string { return map[string]string{"KITT_HOME": m.home}[name] }}.Resolve()
		require.NoError(t, err)
		return c.Token.Reveal()
	}
	require.Equal(t, exitOK, m.run("init", "--server", server, "--new-token").code)
	require.Len(t, token(), 64)

	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("from-a-file\n"), 0o600))
	require.Equal(t, exitOK, m.run("init", "--token-file", file).code)
	require.Equal(t, "from-a-file", token())
	m.in = strings.NewReader("from-stdin\n")
	require.Equal(t, exitOK, m.run("init", "--token-file", "-").code)
	require.Equal(t, "from-stdin", token())
	m.in = strings.NewReader("\n")
	require.Contains(t, m.run("init", "--token-file", "-").err, "holds no token")
	require.Contains(t, m.run("init", "--token-file", "/nonexistent").err, "no such file")

	m.vars["KITT_TOKEN"] = "from-a-variable"
	require.Equal(t, exitOK, m.run("init").code)
	require.Equal(t, "from-a-variable", token())
}

// TestInitForceTwiceKeepsTheToken makes two new tokens: the first one, which may be the
// only one that the server takes, is still on the disk.
func TestInitForceTwiceKeepsTheToken(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := healthy(t)
	require.Equal(t, exitOK, m.run("init", "--server", server, "--new-token").code)
	good := m.read()
	for range 2 {
		got := m.run("init", "--server", server, "--force", "--new-token")
		require.Equal(t, exitOK, got.code, got.err)
	}
	kept, err := os.ReadFile(filepath.Join(m.home, "agent.yaml.previous.1"))
	require.NoError(t, err)
	require.Equal(t, good, string(kept))
}

func TestInitForce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("port: [broken\n")
	got := m.run("init", "--server", "http://127.0.0.1:1")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "kitt-agent init --force")
	require.Equal(t, "port: [broken\n", m.read(), "a file that can't be read is left alone")

	got = m.run("init", "--server", "http://127.0.0.1:1", "--force")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "written")
	require.Contains(t, m.read(), "port: 8090\n", "a new file names the port")
	old, err := os.ReadFile(filepath.Join(m.home, "agent.yaml.previous"))
	require.NoError(t, err)
	require.Equal(t, "port: [broken\n", string(old))
}

// A certificate that can't be verified is said with what to do, and verifying
// works with the authority at hand.
func TestInitTLS(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	server.Config.ErrorLog = quietLog
	server.StartTLS()
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pemOf(server.Certificate()), 0o600))

	require.Contains(t, m.run("init", "--server", server.URL).err, "give its authority with --ca FILE")
	got := m.run("init", "--ca", ca)
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "which answers")
	require.Contains(t, m.read(), "tls:\n  ca: "+ca+"\n")
	require.Contains(t, m.run("init", "--ca", "/nonexistent").err, "--ca: stat /nonexistent")
	require.Contains(t, m.run("init", "--cert", ca).err, "of cert and key only one is set")
}
