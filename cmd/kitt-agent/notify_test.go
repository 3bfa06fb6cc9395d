package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/notify"
)

// TestDaemonNotifies has the real program tell a web hook of a job that fails. The hook's
// address is in a file.
func TestDaemonNotifies(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil && r.Header.Get("webhook-signature") != "" {
			bodies <- body
		}
	}))
	defer hook.Close()
	file := filepath.Join(t.TempDir(), "hook")
	require.NoError(t, os.WriteFile(file, []byte(hook.URL+"/secret-path\n"), 0o600))
	ctx, d := startLocalDaemon(t, time.Minute, "notify:\n  url: file:"+file+"\n  key: a-key\nenv:\n  HFTOKEN: hf_abcdefghijklmnop")
	d.command(`{"type":"run_test","command_id":"failing","payload":{"model_path":"fake:lines.30_env.HFTOKEN_exit.3"}}`)
	select {
	case body := <-bodies:
		var n notify.Notification
		require.NoError(t, json.Unmarshal(body, &n))
		require.Equal(t, notify.JobFailed, n.Event)
		require.Equal(t, "failing", n.Job.CommandID)
		require.Contains(t, n.Cause, "Exit 3")
		require.NotEmpty(t, n.Log)
		require.NotContains(t, string(body), "hf_abcdefghijklmnop")
	case <-ctx.Done():
		t.Fatal("the web hook was told nothing: ", tail(d))
	}
	d.stop()
	require.NotContains(t, d.out.String(), "secret-path")
	text, err := os.ReadFile(filepath.Join(d.home, "notify.json"))
	require.NoError(t, err)
	require.NotContains(t, string(text), "secret-path")
	require.Contains(t, string(text), `"waiting":[]`)
}

// TestNotificationsOutliveAKill kills the agent while the web hook is broken. The next
// start tells it once.
func TestNotificationsOutliveAKill(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	asked, took := make(chan struct{}, 100), make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !works.Load() {
			http.Error(w, "broken", http.StatusInternalServerError)
			asked <- struct{}{}
			return
		}
		took <- r.Header.Get("webhook-id")
	}))
	defer hook.Close()
	ctx, d := startLocalDaemon(t, time.Minute, "notify:\n  url: "+hook.URL)
	d.command(`{"type":"run_test","command_id":"failing","payload":{"model_path":"fake:lines.3_exit.3"}}`)
	select {
	case <-asked:
	case <-ctx.Done():
		t.Fatal("the web hook was told nothing: ", tail(d))
	}
	d.kill()
	works.Store(true)
	d.start()
	select {
	case <-took:
	case <-ctx.Done():
		t.Fatal("the next start told the web hook nothing: ", tail(d))
	}
	d.stop()
	d.start()
	d.stop()
	require.Empty(t, took, "it is told once")
}

// The command sends a test, and says what is wrong without the address.
func TestNotifyCommand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("name: gpu-1\n")
	require.Contains(t, m.run("notify").err, "there is no web hook")
	var status atomic.Int64
	status.Store(http.StatusOK)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer hook.Close()
	m.write("name: gpu-1\nnotify:\n  url: " + hook.URL + "/secret-path\n  format: slack\n")
	got := m.run("notify")
	require.Equal(t, exitOK, got.code, got.err)
	status.Store(http.StatusNotFound)
	got = m.run("notify")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "the web hook did not take the test: the receiver answered HTTP 404; check notify in ")
	require.NotContains(t, got.err, "secret-path")
}

// A web hook that cannot be one keeps the agent from starting, and says where to look.
func TestNotifySettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"notify:\n  url: ftp://x\n":                          "notify: URL is not an http or https address; see notify in agent.yaml",
		"notify:\n  url: $NO_SUCH\n":                         "notify.url: the agent's environment has no NO_SUCH",
		"notify:\n  url: http://x\n  key: whsec_?\n":         "what follows whsec_ is not base64",
		"notify:\n  url: http://x\n  events: [job-paused]\n": "notify.events: ",
		"notify:\n  url: http://x\n  per_hour: 0\n":          "notify.per_hour: ",
		"notify:\n  url: http://x\n  format: xml\n":          "notify.format: ",
	} {
		m := newMachine(t)
		m.write("name: x\nserver_url: http://127.0.0.1:1\nrunner: simulated\n" + text)
		got := m.run("start")
		require.Equal(t, exitFailure, got.code, text)
		require.Contains(t, got.err, want)
		require.NotContains(t, got.err, "ftp://x")
		require.False(t, strings.Contains(got.err, "agent started"), text)
	}
}
