package logstream

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve serves l as the agent does.
func serve(t testing.TB, l *Log) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ServeSSE(w, r, l, "2cf1fe73bb3b43c0")
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

type event struct{ id, name, data string }

// follow reads events until the stream ends or take says that it is enough.
func follow(t testing.TB, url, lastID string, take func(event) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	var e event
	for in.Scan() {
		name, value, _ := strings.Cut(in.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if e.name != "" && !take(e) {
				return
			}
			e = event{}
		}
	}
	require.NoError(t, in.Err())
}

func lineOf(t testing.TB, e event) string {
	t.Helper()
	var data struct {
		CommandID string `json:"command_id"`
		Line      string `json:"line"`
	}
	require.NoError(t, json.Unmarshal([]byte(e.data), &data))
	require.Equal(t, "2cf1fe73bb3b43c0", data.CommandID)
	return data.Line
}

func appendLines(l *Log, from, to int) {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	l.Append([]byte(b.String()), time.Time{}, l.Position())
}

func TestALateFollowerGetsAllOfIt(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	appendLines(l, 0, 3000)
	l.Append([]byte("weird \x00 \xff \u2028 \"\\ \x1b[1m\n"), time.Time{}, l.Position())
	require.NoError(t, l.Finish(Final{Status: "failed", Error: "Exit 1"}))
	var lines []string
	var last event
	follow(t, serve(t, l), "", func(e event) bool {
		last = e
		if e.name == "log" {
			require.Equal(t, fmt.Sprint(len(lines)), e.id)
			lines = append(lines, lineOf(t, e))
		}
		return true
	})
	require.Len(t, lines, 3001)
	require.Equal(t, "line 2999", lines[2999])
	require.Equal(t, "weird \x00 \uFFFD \u2028 \"\\ \x1b[1m", lines[3000])
	require.Equal(t, "end", last.name)
	require.JSONEq(t, `{"command_id":"2cf1fe73bb3b43c0","status":"failed","error":"Exit 1"}`, last.data)
}

func TestAFollowerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	appendLines(l, 0, 1000)
	require.NoError(t, l.Finish(Final{Status: "completed"}))
	url := serve(t, l)
	for lastID, first := range map[string]string{"41": "line 42", "998": "line 999", "x": "line 0", "-5": "line 0", "": "line 0"} {
		var got string
		follow(t, url, lastID, func(e event) bool {
			got = lineOf(t, e)
			return false
		})
		require.Equal(t, first, got, "Last-Event-ID %q", lastID)
	}
	n := 0
	follow(t, url, "999", func(e event) bool {
		require.Equal(t, "end", e.name)
		n++
		return true
	})
	require.Equal(t, 1, n)
}

func TestFollowersThatDoNotReadSlowNobody(t *testing.T) {
	t.Parallel()
	const lines, readers, stuck = 5000, 150, 50
	l := fresh(t)
	url := serve(t, l)
	for range stuck {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
	}
	var wg sync.WaitGroup
	counts := make([]int, readers)
	for i := range readers {
		wg.Go(func() {
			follow(t, url, "", func(e event) bool {
				if e.name == "log" {
					counts[i]++
				}
				return true
			})
		})
	}
	for i := 0; i < lines; i += 10 {
		appendLines(l, i, i+10)
	}
	require.NoError(t, l.Finish(Final{Status: "completed"}))
	wg.Wait()
	for _, n := range counts {
		require.Equal(t, lines, n)
	}
}
