package kittapi

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answering returns a client of a server that answers every call alike, and
// keeps the last request.
func answering(t *testing.T, status int, kind, body string, headers ...string) (*Client, *http.Request, *[]byte) {
	t.Helper()
	var last http.Request
	var sent []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = make([]byte, max(r.ContentLength, 0))
		_, _ = r.Body.Read(sent)
		last = *r.Clone(context.Background())
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(srv.Close)
	c, err := New(Config{URL: srv.URL + "/", Token: "agent-token", ServerToken: "server-token", Timeout: 10 * time.Second})
	require.NoError(t, err)
	return c, &last, &sent
}

func TestOnlyTheServersOwnWordCounts(t *testing.T) {
	t.Parallel()
	const page = "<!doctype html><title>404 Not Found</title>"
	for _, tt := range []struct {
		name, kind, body string
		status           int
		refused          int  // status of the RefusedError that is wanted
		broken, unauth   bool // which sentinel
		ok               bool
	}{
		{name: "ok", status: 200, kind: "application/json", body: `{"ok": true}`, ok: true},
		{name: "a login page", status: 200, kind: "text/html", body: page},
		{name: "JSON of somebody else", status: 200, kind: "application/json", body: `{"hello": 1}`},
		{name: "cut", status: 200, kind: "application/json", body: `{"ok": tr`},
		{name: "router", status: 404, kind: "text/html", body: page},
		{name: "the test is unknown", status: 404, kind: "application/json", body: `{"error": "Quick test not found"}`, refused: 404},
		{name: "bad request", status: 400, kind: "application/json", body: `{"error": "line is required"}`, refused: 400},
		{name: "forbidden", status: 403, kind: "application/json", body: `{"error": "Invalid authentication token"}`, refused: 403},
		{name: "a proxy forbids", status: 403, kind: "text/html", body: page},
		{name: "unauthorized", status: 401, kind: "application/json", body: `{"error": "Missing or invalid authorization"}`, unauth: true},
		{name: "broken", status: 500, kind: "text/html", body: page, broken: true},
		{name: "bad gateway", status: 502, kind: "text/html", body: page},
		{name: "redirect", status: 302, kind: "text/html", body: page},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, _, _ := answering(t, tt.status, tt.kind, tt.body, "Location", "http://elsewhere/")
			err := c.ReportLog(t.Context(), "t", "line")
			require.Equal(t, tt.ok, err == nil, "%v", err)
			if tt.ok {
				return
			}
			refused := 0
			if e := new(agent.RefusedError); asError(err, &e) {
				refused = e.Status
			}
			require.Equal(t, tt.refused, refused)
			require.Equal(t, tt.broken, isError(err, agent.ErrBroken))
			require.Equal(t, tt.unauth, isError(err, ErrUnauthorized))
			require.NotContains(t, err.Error(), "token-")
			require.NotContains(t, err.Error(), "<")
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(90 * time.Second).UTC()
	for value, want := range map[string]time.Duration{
		"7":                        7 * time.Second,
		at.Format(http.TimeFormat): 90 * time.Second,
	} {
		c, _, _ := answering(t, 503, "text/html", "busy", "Retry-After", value)
		var e *agent.RetryAfterError
		require.ErrorAs(t, c.ReportLog(t.Context(), "t", "line"), &e)
		require.InDelta(t, want.Seconds(), e.After.Seconds(), 3)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	c, last, _ := answering(t, 200, "application/json", `{"ok": true}`)
	require.NoError(t, c.ReportStatus(t.Context(), "t", "running", ""))
	require.Equal(t, "Bearer server-token", last.Header.Get("Authorization"))
	c, last, _ = answering(t, 202, "application/json", `{"accepted": true}`)
	require.NoError(t, c.ReportResult(t.Context(), "gpu é 1", agent.Result{}))
	require.Equal(t, "Bearer agent-token", last.Header.Get("Authorization"))
	require.Equal(t, "/api/v1/agents/gpu%20%C3%A9%201/results", last.URL.EscapedPath())
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c.token, c.token, c.token), "agent-token")
	text, err := json.Marshal(struct{ T Secret }{c.token})
	require.NoError(t, err)
	require.NotContains(t, string(text), "agent-token")
}

func TestHeartbeatsTellAForgottenAgentFromAProxy(t *testing.T) {
	t.Parallel()
	c, _, _ := answering(t, 404, "application/json", `{"error": "Agent not found"}`)
	_, err := c.Heartbeat(t.Context(), "x", heartbeat.Beat{})
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)
	c, _, _ = answering(t, 404, "text/html", "not found")
	_, err = c.Heartbeat(t.Context(), "x", heartbeat.Beat{})
	require.Error(t, err)
	require.NotErrorIs(t, err, heartbeat.ErrUnknownAgent)
	c, _, _ = answering(t, 403, "application/json", `{"error": "Invalid token for this agent"}`)
	_, err = c.Heartbeat(t.Context(), "x", heartbeat.Beat{})
	require.ErrorContains(t, err, "Rotate the token on the server")
}

func TestHeartbeatAnswers(t *testing.T) {
	t.Parallel()
	c, _, sent := answering(t, 200, "application/json",
		`{"ack": true, "agent_id": "a1", "commands": [5, {"command_id": 7, "test_id": "t", "type": "run_test", "payload": {"model_path": "m"}}], "settings": {"auto_cleanup": "true", "odd": 5}}`)
	used := int64(3 << 29)
	got, err := c.Heartbeat(t.Context(), "x", heartbeat.Beat{Status: "idle", StorageFree: &used})
	require.NoError(t, err)
	require.Equal(t, "a1", got.AgentID)
	require.Len(t, got.Commands, 1)
	require.Equal(t, "t", got.Commands[0].TestID)
	require.Empty(t, got.Commands[0].ID, "a number is no id")
	require.Equal(t, map[string]string{"auto_cleanup": "true"}, got.Settings)
	require.JSONEq(t, `{"status":"idle","current_task":"","storage_gb_free":1.5,"uptime_s":0,"engines":[]}`, string(*sent))
}

func TestRegistrationIsInTheServersForm(t *testing.T) {
	t.Parallel()
	c, _, sent := answering(t, 201, "application/json", `{"agent_id": "a1", "heartbeat_interval_s": 30}`)
	machine, ok := hwdetect.Profile("h100-8")
	require.True(t, ok)
	got, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01", Port: 8090, Version: "2.0.0", Machine: machine})
	require.NoError(t, err)
	require.Equal(t, agent.Registered{AgentID: "a1", Interval: 30 * time.Second}, got)
	var body map[string]any
	require.NoError(t, json.Unmarshal(*sent, &body))
	require.Equal(t, []any{}, body["capabilities"])
	require.EqualValues(t, 8, body["gpu_count"])
	var details map[string]any
	require.NoError(t, json.Unmarshal([]byte(body["hardware_details"].(string)), &details))
	require.Equal(t, body["fingerprint"], details["fingerprint"])
	for key, v := range body {
		require.NotNil(t, v, key)
	}
}

func TestTextIsMadeFitForTheServer(t *testing.T) {
	t.Parallel()
	c, _, sent := answering(t, 200, "application/json", `{"ok": true}`)
	require.NoError(t, c.ReportLog(t.Context(), "t", "a\xff\xed\xa0\x80<b>&"))
	require.NotContains(t, strings.ToLower(string(*sent)), `\ud8`)
	var body map[string]string
	require.NoError(t, json.Unmarshal(*sent, &body))
	require.True(t, strings.HasPrefix(body["line"], "a\uFFFD"))
	require.True(t, strings.HasSuffix(body["line"], "<b>&"))
}

func TestDispatchedCommandsAreRebuilt(t *testing.T) {
	t.Parallel()
	c, _, _ := answering(t, 200, "application/json", `{"items": [
		{"id": "t2", "command_id": "c2", "agent_name": "me", "status": "dispatched", "engine_name": "cleanup", "model_path": "m", "created_at": "2026-11-23 16:18:40"},
		{"id": "t3", "command_id": "c3", "agent_name": "other", "status": "dispatched"},
		{"id": "t1", "command_id": "c1", "agent_name": "me", "status": "dispatched", "engine_name": "vllm", "model_path": "m", "created_at": "2026-11-23T16:18:40.362683", "error": null}
	], "total": 3, "page": 1, "pages": 1}`)
	got, err := c.Dispatched(t.Context(), "me")
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, "c1", got[0].ID)
	require.Equal(t, agent.TypeRunTest, got[0].Type)
	require.Equal(t, agent.TypeCleanupStorage, got[1].Type)
	require.False(t, got[0].CreatedAt.IsZero())
	require.Equal(t, time.Date(2026, 11, 23, 16, 18, 40, 0, time.UTC), got[1].CreatedAt)
}

func TestResultsWithNaNAreRead(t *testing.T) {
	t.Parallel()
	c, _, _ := answering(t, 200, "application/json", `{"items": [{"model": "m", "engine": "e", "timestamp": "now", "x": NaN}], "total": 1}`)
	has, err := c.HasResult(t.Context(), "m", "e", "now")
	require.NoError(t, err)
	require.True(t, has)
	has, err = c.HasResult(t.Context(), "m", "e", "then")
	require.NoError(t, err)
	require.False(t, has)
}

func TestAServerThatSaysNothingIsGivenUp(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	c, err := New(Config{URL: srv.URL, Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	require.ErrorIs(t, c.Health(t.Context()), context.DeadlineExceeded)
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		piece := []byte(strings.Repeat(" ", 64<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	c, err := New(Config{URL: srv.URL})
	require.NoError(t, err)
	require.ErrorContains(t, c.Health(t.Context()), "longer than")
}

func TestTLSChecksTheServerAndResumesSessions(t *testing.T) {
	t.Parallel()
	var resumed []bool
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.TLS.DidResume)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":"ok"}`)
	}))
	defer srv.Close()
	srv.Config.ErrorLog = nil
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, text, 0o600))

	c, err := New(Config{URL: srv.URL, CAFile: ca})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, c.Health(t.Context()))
	}
	require.Equal(t, []bool{false, true, true}, resumed)

	c, err = New(Config{URL: srv.URL})
	require.NoError(t, err)
	err = c.Health(t.Context())
	require.ErrorContains(t, err, "is not trusted")
	require.ErrorContains(t, err, "tls.ca")

	wrongName := strings.Replace(srv.URL, "127.0.0.1", "127.0.0.2", 1)
	c, err = New(Config{URL: wrongName, CAFile: ca})
	require.NoError(t, err)
	require.ErrorContains(t, c.Health(t.Context()), "127.0.0.2", "the name counts too")

	c, err = New(Config{URL: srv.URL, Insecure: true})
	require.NoError(t, err)
	require.NoError(t, c.Health(t.Context()))
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "server:8080", "ftp://x", "http://", "http://u:p@x", "http://x/?a"} {
		_, err := New(Config{URL: url})
		require.Error(t, err, url)
	}
	_, err := New(Config{URL: "https://x", CertFile: "/nothing"})
	require.ErrorContains(t, err, "needs its key")
	_, err = New(Config{URL: "https://x", CAFile: "/nothing"})
	require.ErrorContains(t, err, "CA:")
}

// FuzzAnswers gives the client whatever a server may answer.
func FuzzAnswers(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"ack":true,"commands":[{"command_id":"c"}],"settings":{"a":"b"}}`))
	f.Add(404, "application/json", []byte(`{"error":"Agent not found"}`))
	f.Add(200, "text/html", []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		c, err := New(Config{URL: "http://x", Transport: canned{status, kind, body}})
		require.NoError(t, err)
		answer, err := c.Heartbeat(t.Context(), "a", heartbeat.Beat{})
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
		} else {
			require.LessOrEqual(t, len(answer.Commands), maxCommands)
		}
		_, _ = c.Tests(t.Context(), Filter{})
		_, _ = c.LogRows(t.Context(), "t")
		_, _ = c.HasResult(t.Context(), "m", "e", "t")
		_, _ = c.Register(t.Context(), agent.Registration{Name: "n"})
	})
}
