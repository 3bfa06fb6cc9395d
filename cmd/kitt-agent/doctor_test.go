package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unpack returns the files of a report, by their names without the directory.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	zip, err := gzip.NewReader(bytes.NewReader(text))
	require.NoError(t, err)
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[filepath.Base(h.Name)] = string(content)
	}
}

// TestDoctorTellsNoSecret puts a secret wherever an agent may have one, and finds none in
// the report.
func TestDoctorTellsNoSecret(t *testing.T) {
	t.Parallel()
	secrets := []string{
		"own-token-0123456789", "server-token-0123456789", "hook-path-0123456789", "hook-key-0123456789", "hf_literal0123456789",
		"from-variable-0123456789", "from-file-0123456789", "marked-0123456789", "proxy-password", "hf_loggedbymistake0123", "logged-password", "record-token-value",
	}
	m := newMachine(t)
	server := m.serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name":"gpu-1","state":"idle","warnings":["own-token-0123456789 is refused"],"jobs":[]}`)
	})
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("from-file-0123456789\n"), 0o600))
	m.write("name: gpu-1\nserver_url: http://127.0.0.1:1\ntoken: own-token-0123456789\nport: " + strconv.Itoa(portOf(t, server.URL)) + "\nrunner: simulated\nnotify:\n" +
		"  url: https://hooks.example/hook-path-0123456789\n  key: $HOOK_KEY\n" +
		"env:\n  HF_TOKEN: hf_literal0123456789\n  A: $FROM_VARIABLE\n  B: file:" + file + "\n  C: {value: marked-0123456789, secret: true}\n  PLAIN: fine\n")
	m.vars["KITT_SERVER_TOKEN"] = "server-token-0123456789"
	m.vars["FROM_VARIABLE"] = "from-variable-0123456789"
	m.vars["HOOK_KEY"] = "hook-key-0123456789"
	m.vars["HTTPS_PROXY"] = "http://user:proxy-password@proxy.example:3128"
	log := strings.Join([]string{
		`{"msg":"started"}`, `{"msg":"refused","err":"own-token-0123456789 server-token-0123456789"}`,
		`{"err":"from-variable-0123456789 from-file-0123456789 marked-0123456789 hook-key-0123456789"}`,
		`{"url":"https://hooks.example/hook-path-0123456789","proxy":"http://user:proxy-password@proxy.example:3128"}`,
		`{"line":"hf_loggedbymistake0123","password":"logged-password"}`, "",
	}, "\n")
	job := filepath.Join(m.home, "jobs", "1111222233334444")
	for path, text := range map[string]string{
		filepath.Join(m.home, "logs", "agent.log"):   log,
		filepath.Join(m.home, "logs", "audit.jsonl"): log,
		filepath.Join(job, "job.json"):               `{"version":1,"state":"failed","outcome":{"error":"HF_TOKEN=record-token-value is wrong"}}`,
		filepath.Join(job, "log"):                    "the log of a job is not in the report",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	report := filepath.Join(t.TempDir(), "report.tar.gz")
	got := m.run("doctor", "-o", report, "--no-preflight")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, report+"\n", got.out)
	info, err := os.Stat(report)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	files := unpack(t, report)
	for name, text := range files {
		for _, secret := range secrets {
			require.NotContains(t, text, secret, name)
		}
		require.NotContains(t, text, "the log of a job")
	}
	require.Contains(t, files["settings.txt"], "agent.yaml:5")
	require.Contains(t, files["settings.txt"], "KITT_SERVER_TOKEN")
	require.Contains(t, files["version.json"], `"go": "go1`)
	require.Contains(t, files["status.json"], `"state": "idle"`)
	require.Contains(t, files["agent.log"], `{"msg":"started"}`)
	require.Contains(t, files["jobs.txt"], "1111222233334444 failed")
	require.Contains(t, files["jobs.txt"], "is wrong")
	require.Contains(t, files["disks.txt"], " free, ")
	require.Contains(t, files, "engine.txt")
	require.Contains(t, files, "hardware.txt")

	got = m.run("doctor", "--text", "--no-preflight")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "===== settings.txt =====\n")
	for _, secret := range secrets {
		require.NotContains(t, got.out+got.err, secret)
	}
	again := m.run("doctor", "--output", report, "--no-preflight")
	require.Equal(t, exitFailure, again.code, "a file that exists stays")
	require.Contains(t, again.err, "name another file with --output")
}

// Without an agent, and with settings that are wrong, there is a report all the same.
func TestDoctorInTrouble(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	_, port, err := net.SplitHostPort(freeAddress(t))
	require.NoError(t, err)
	m.write("port: " + port + "\n")
	got := m.run("doctor", "--text", "--no-preflight")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "===== status.json =====\n(incomplete: ")
	require.Contains(t, got.out, "===== agent.log =====\n(incomplete: ")

	m.write("token: secret token 0123\nport: none\n")
	got = m.run("doctor", "--text")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "agent.yaml:2: port: ")
	require.NotContains(t, got.out+got.err, "0123")

	require.Equal(t, exitUsage, m.run("doctor", "--text", "--output", "x").code)
}

// The checks of preflight are part of the report.
func TestDoctorHasPreflight(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("name: gpu-1\nserver_url: http://127.0.0.1:1\nrunner: simulated\n")
	got := m.run("doctor", "--text")
	require.Equal(t, exitOK, got.code, got.err)
	_, checks, _ := strings.Cut(got.out, "===== preflight.txt =====\n")
	require.Contains(t, checks, "CHECK")
	require.Contains(t, checks, "port")
}
