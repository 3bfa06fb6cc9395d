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
	"testing/synctest"
	"time"

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
		case "/api/logs/t1", "/api/logs/c1":
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

// --tail shows the last lines of what there is, and with --follow what comes then.
func TestLogsTail(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{true, false} {
		m := newMachine(t)
		m.serve(logAPI(ends, 3))
		got := m.run("logs", "t1", "--tail", "2")
		require.Equal(t, exitOK, got.code, got.err)
		require.Equal(t, "line 1\nline 2\n", got.out)
		require.Empty(t, m.run("logs", "t1", "--tail", "0").out)
		require.Equal(t, `{"id":"2","line":"line 2"}`+"\n", m.run("logs", "--tail", "1", "--json").out)
	}
	m := newMachine(t)
	m.serve(logAPI(true, 3))
	require.Equal(t, "line 2\n", m.run("logs", "t1", "--tail", "1", "--follow").out)
}

// At a pause of a log that is followed, its last lines so far are shown.
func TestLogTailAtAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		printer := &logPrinter{out: &out, tail: &logTail{lines: 2}}
		shown := func() string {
			printer.tail.mu.Lock() // which is held while lines are written
			defer printer.tail.mu.Unlock()
			return out.String()
		}
		for n := range 4 {
			require.NoError(t, printer.line(fmt.Sprint(n)))
			time.Sleep(quiet / 2)
		}
		synctest.Wait()
		require.Empty(t, shown())
		time.Sleep(quiet)
		synctest.Wait()
		require.Equal(t, "2\n3\n", shown())
		require.NoError(t, printer.line("4"))
		require.Equal(t, "2\n3\n4\n", shown())
		require.NoError(t, printer.tail.release())
	})
}

func TestPickJob(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	jobs := []knownJob{{"aa11", "t1", at(1)}, {"aa22", "t22", at(3)}, {"bb", "t2", at(2)}}
	for word, want := range map[string]string{"": "aa22", "b": "bb", "aa1": "aa11", "t22": "t22", "t2": "t2", "x": "x"} {
		got, err := pickJob(jobs, word)
		require.NoError(t, err)
		require.Equal(t, want, got, word)
	}
	_, err := pickJob(jobs, "aa")
	require.ErrorContains(t, err, `"aa" is the beginning of several ids: aa11, aa22`)
	_, err = pickJob(nil, "")
	require.ErrorIs(t, err, errNoJobs)
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
	out.Reset()
	newer := time.Now().Add(time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(m.home, "jobs", "c2", "command.json"), newer, newer))
	require.Equal(t, exitOK, env.run(t.Context(), []string{"logs"}))
	require.Equal(t, "log of c2\n", out.String())
	require.Equal(t, exitFailure, env.run(t.Context(), []string{"logs", "../jobs/c1"}))
	require.Contains(t, errOut.String(), `there is no job with the id "../jobs/c1"`)
}
