package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/storage"
)

// quietLog takes what a test server says about handshakes that are meant to fail.
var quietLog = log.New(io.Discard, "", 0)

func pemOf(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func TestStatusNotRunning(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := m.serve(nil)
	server.Close()
	got := m.run("status")
	require.Equal(t, exitNotRunning, got.code)
	require.Empty(t, got.out)
	require.Contains(t, got.err, "the agent is not running")
	require.Contains(t, got.err, "kitt-agent start")

	got = m.run("status", "--json")
	require.Equal(t, exitNotRunning, got.code)
	require.Empty(t, got.err)
	var report statusReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.False(t, report.Up)
	require.Contains(t, report.Error, "not running")
}

func TestStatusOfRunningAgent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name":"gpu-1","running":false,"active_containers":0,"active_streams":0,"storage":{"used_gb":1,"free_gb":2,"model_count":3},"more":1}`)
	})
	got := m.run("status")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, "gpu-1, idle")
	require.Contains(t, got.out, "3 kept, 2.0 GiB free")
	got = m.run("status", "--json")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.out, `"more": 1`)
}

// An agent that can take no work is there, and its status has an exit code of
// its own.
func TestStatusOfADegradedAgent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"name":"gpu-1","state":"idle","started_at":"2026-11-23T18:00:00Z","degraded":"the server refuses this agent: 403\u001b[2J",
			"server":{"registered":true,"refusal":"403","last_error":"connection refused","failed_attempts":7}}`)
	})
	got := m.run("status")
	require.Equal(t, exitDegraded, got.code)
	require.Equal(t, 4, got.code)
	require.Contains(t, got.out, "gpu-1, degraded")
	require.Contains(t, got.out, "http://kitt:8080: refuses this agent, 7 failed attempts")
	require.Equal(t, "kitt-agent: degraded: the server refuses this agent: 403\uFFFD[2J\n", got.err)

	got = m.run("status", "--json")
	require.Equal(t, exitDegraded, got.code)
	require.Empty(t, got.err)
	var report statusReport
	require.NoError(t, json.Unmarshal([]byte(got.out), &report))
	require.True(t, report.Up)
	require.Contains(t, report.Degraded, "the server refuses this agent")
}

func TestStatusOfAnotherAgentOnThePort(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"name":"gpu-2"}`) })
	got := m.run("status")
	require.Equal(t, exitOK, got.code, got.err)
	require.Contains(t, got.err, `calls itself "gpu-2", and the settings here name "gpu-1"`)
}

func TestStatusThatFails(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	require.Equal(t, exitFailure, m.run("status").code)
	require.Equal(t, exitFailure, m.run("status", "--json").code)
}

// The whole page, with texts from the server that would move a cursor.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	s := &agent.Status{
		Name: "gpu-1", Version: "1.2.3", State: "running", StartedAt: now.Add(-26 * time.Hour),
		Storage:        agent.StorageStatus{FreeGB: 74.29, ModelCount: 2},
		Server:         agent.ServerStatus{AgentID: "2343f65eed2d4c6d", Registered: true, LastBeat: now.Add(-12 * time.Second), IntervalS: 60},
		Undelivered:    1,
		Settings:       map[string]string{"model_storage_dir": "/data/models", "kitt_image": "", "heartbeat_interval_s": "60"},
		SettingSources: map[string]string{"model_storage_dir": agent.SourceMachine, "heartbeat_interval_s": agent.SourceRemembered},
		Warnings:       []string{"The heartbeat interval is long"},
		Jobs: []agent.JobStatus{
			{CommandID: "1111222233334444", TestID: "aaaabbbbccccdddd", State: "running", Model: "/mnt/models/Qwen\x1b[2J", Engine: "vllm",
				Suite: "quick", AcceptedAt: now.Add(-time.Hour), StartedAt: now.Add(-90 * time.Second), LogLines: 12},
			{CommandID: "2222333344445555", TestID: "bbbbccccddddeeee", State: "preparing", Model: "big", Engine: "ollama", Suite: "standard",
				AcceptedAt: now.Add(-5 * time.Second), Copy: &storage.Progress{BytesDone: 3 << 30, BytesTotal: 7 << 30}},
		},
		Recent: []agent.JobStatus{
			{CommandID: "3333444455556666", TestID: "ccccddddeeeeffff", State: "failed", Model: "m", Engine: "vllm", Suite: "quick", Error: "Exit 1",
				AcceptedAt: now.Add(-3 * time.Hour), StartedAt: now.Add(-3 * time.Hour), EndedAt: now.Add(-2 * time.Hour),
				Integrity: &agent.JobIntegrity{Verdict: "valid", Text: "Machine: valid"}},
			{CommandID: "4444555566667777", State: "completed", Model: "m", Engine: "vllm", Suite: "quick",
				AcceptedAt: now.Add(-4 * time.Hour), StartedAt: now.Add(-4 * time.Hour), EndedAt: now.Add(-3 * time.Hour),
				Integrity: &agent.JobIntegrity{Verdict: "invalid", Text: "Machine: INVALID - hardware thermal slowdown for 7.2% of 312 s on GPU 3"}},
		},
	}
	cfg := &config.Config{ServerURL: "https://kitt:8080"}
	var out bytes.Buffer
	require.NoError(t, writeStatus(&out, cfg, "http://127.0.0.1:8090", 4242, s, now))
	s.Server = agent.ServerStatus{LastError: "connection refused", FailingFor: 7, LastBeat: now.Add(-time.Hour)}
	s.Jobs, s.Recent, s.Draining = nil, nil, true
	s.Problems = []health.Problem{health.New(health.Refused, "register: Invalid token\x1b[2J"), health.New(health.DiskLow, "")}
	require.NoError(t, writeStatus(&out, cfg, "http://127.0.0.1:8090", 0, s, now))
	golden(t, "status.txt", out.Bytes())
}

// golden compares got with a file below testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 59*time.Second + 600*time.Millisecond: "1 min 0 s", 90 * time.Second: "1 min 30 s",
		2*time.Hour + 5*time.Minute: "2 h 5 min", 50 * time.Hour: "2 d 2 h",
	} {
		require.Equal(t, want, span(d))
	}
}

func TestLogLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                         "plain",
		"\x1b[1;32mgreen\x1b[0m":        "\x1b[1;32mgreen\x1b[0m",
		"\x1b]0;title\x07after":         "]0;titleafter",
		"a\x1b[2Jb\r\x9b31m":            "a[2Jb\uFFFD31m",
		"tab\tüber \U0001F600":          "tab\tüber \U0001F600",
		"\x1b[":                         "[",
		"c1 \u0090 control":             "c1  control",
		"broken \xff byte stays itself": "broken \uFFFD byte stays itself",
	} {
		require.Equal(t, want, logLine(in), "%q", in)
	}
}
