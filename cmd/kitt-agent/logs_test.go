package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/logstream"
)

// logAPI serves one job with three lines, which ends if it is told to.
func logAPI(ends bool, known int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/status":
			ended := ""
			if ends {
				ended = `,"ended_at":"2026-11-23T18:00:00Z"`
			}
			fmt.Fprintf(w, `{"jobs":[{"command_id":"c1","test_id":"t1","log_lines":%d%s}]}`, known, ended)
		case "/api/logs/t1":
			w.Header().Set("Content-Type", "text/event-stream")
			for n := range 3 {
				fmt.Fprintf(w, "id: %d\nevent: log\ndata: {\"command_id\":\"c1\",\"line\":\"line %d\"}\n\n", n, n)
			}
			fmt.Fprint(w, "event: progress\ndata: {\"line\":\"50%\"}\n\n")
			if ends {
				fmt.Fprint(w, "event: end\ndata: {\"command_id\":\"c1\",\"status\":\"failed\",\"error\":\"Exit 1\"}\n\n")
				return
			}
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":"No logs for this command"}`)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	const all = "line 0\nline 1\nline 2\n"
	tests := []struct {
		name    string
		ends    bool
		known   int
		args    []string
		out     string
		wantErr string
	}{
		{"ended", true, 3, []string{"t1"}, all, ""},
		{"followed to its end", true, 3, []string{"t1", "--follow"}, all, "job failed: Exit 1\n"},
		{"running", false, 3, []string{"t1"}, all, ""},
		{"running, its agent counts more than it sends", false, 9, []string{"t1"}, all, ""},
		{"nothing yet", false, 0, []string{"t1"}, "", ""},
		{"json", true, 3, []string{"t1", "--json"}, `{"id":"0","line":"line 0"}` + "\n" + `{"id":"1","line":"line 1"}` + "\n" + `{"id":"2","line":"line 2"}` + "\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.serve(logAPI(tt.ends, tt.known))
			got := m.run(append([]string{"logs"}, tt.args...)...)
			require.Equal(t, exitOK, got.code, got.err)
			require.Equal(t, tt.out, got.out)
			require.Equal(t, tt.wantErr, got.err)
		})
	}
}

func TestLogsOfUnknownJob(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(logAPI(true, 3))
	for _, args := range [][]string{{"logs", "other"}, {"logs", "other", "-f"}} {
		got := m.run(args...)
		require.Equal(t, exitFailure, got.code)
		require.Contains(t, got.err, `the agent has no job with the id "other"; kitt-agent status`)
	}
}

func TestFollowIsInterrupted(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.serve(logAPI(false, 3))
	ctx, cancel := context.WithCancel(t.Context())
	var errOut bytes.Buffer
	out := &cancelAfter{lines: 3, cancel: cancel}
	env := &environment{stdout: out, stderr: &errOut, getenv: func(name string) string { return m.vars[name] }}
	require.Equal(t, exitOK, env.run(ctx, []string{"logs", "t1", "-f"}))
	require.Empty(t, errOut.String())
}

// cancelAfter cancels once a number of lines was written.
type cancelAfter struct {
	lines  int
	cancel func()
}

func (c *cancelAfter) Write(p []byte) (int, error) {
	if c.lines--; c.lines == 0 {
		c.cancel()
	}
	return len(p), nil
}

func TestLogsFromDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	server := m.serve(nil)
	server.Close()
	for id, order := range map[string]string{
		"c1": `{"command":{"command_id":"c1","test_id":"t1"}}`,
		"c2": `{"broken`,
	} {
		dir := filepath.Join(m.home, "jobs", id)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "command.json"), []byte(order), 0o600))
		log, err := logstream.Open(filepath.Join(dir, "log"), logstream.Options{})
		require.NoError(t, err)
		log.Note("log of " + id)
		require.NoError(t, log.Close())
	}
	var out, errOut bytes.Buffer
	env := &environment{stdout: &out, stderr: &errOut, getenv: func(name string) string { return m.vars[name] }}
	require.Equal(t, exitOK, env.run(t.Context(), []string{"logs", "t1"}))
	require.Equal(t, exitOK, env.run(t.Context(), []string{"logs", "c2"}))
	require.Equal(t, "log of c1\nlog of c2\n", out.String())
	require.Equal(t, exitFailure, env.run(t.Context(), []string{"logs", "../jobs/c1"}))
	require.Contains(t, errOut.String(), `there is no job with the id "../jobs/c1"`)
}
