package logstream

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// serve serves l as the agent does.
func serve(t testing.TB, l *Log) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ServeSSE(w, r, l, "2cf1fe73bb3b43c0")
	}))
	srv.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*net.TCPConn).SetWriteBuffer(256 << 10) // as the agent's API does
		return ctx
	}
	srv.Start()
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
	for lastID, first := range map[string]string{
		"41": "line 42", " 41 ": "line 42", "998": "line 999", "": "line 0", "x": "line 0", "-5": "line 0", "1e3": "line 0",
		"5000": "line 0", "9223372036854775807": "line 0", "99999999999999999999": "line 0",
	} {
		var got string
		follow(t, url, lastID, func(e event) bool {
			got = lineOf(t, e)
			return false
		})
		require.Equal(t, first, got, "Last-Event-ID %q", lastID)
	}
	var rest []event
	follow(t, url, "999", func(e event) bool {
		rest = append(rest, e)
		return true
	})
	require.Len(t, rest, 1)
	require.Equal(t, "end", rest[0].name)

	// A browser that comes back after the end is told to stay away.
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("Last-Event-ID", rest[0].id)
	w := httptest.NewRecorder()
	ServeSSE(w, req, l, "2cf1fe73bb3b43c0")
	require.Equal(t, http.StatusNoContent, w.Code)
}

// TestAStreamLooksLikeThis compares a stream that has all kinds of records with
// a file, which go test -update rewrites.
func TestAStreamLooksLikeThis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := secretive(t, "hf_abcdefgh")
		disk := onDiskWith(l, 1<<20)
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			ServeSSE(w, httptest.NewRequest(http.MethodGet, "/", nil), l, "2cf1fe73bb3b43c0")
		}()
		synctest.Wait()
		require.True(t, w.Flushed, "the head leaves before there is a line")
		var at int64
		print := func(text string) {
			l.Append([]byte(text), time.Time{}, Position{Byte: at})
			at += int64(len(text))
			time.Sleep(2 * time.Second)
		}
		l.Note("Image kitt:latest")
		print("plain\n\n  indented\t\x1b[32mgreen\x1b[0m <b>&\"\\ \u2028 é █ \x00\xff\n")
		print("\r 10%\r 20%")
		print("\r 90%\r100%\n")
		print("Loading")
		print("\n")
		time.Sleep(time.Minute)
		disk.room.Store(0)
		print("refused\n")
		disk.room.Store(1 << 20)
		print("token hf_abcdefgh\n")
		require.NoError(t, l.Finish(Final{Status: "failed", Error: "Exit 1"}))
		<-done
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, "text/event-stream; charset=utf-8", w.Header().Get("Content-Type"))
		golden(t, "stream.sse", w.Body.Bytes())
		file, err := os.ReadFile(l.path)
		require.NoError(t, err)
		golden(t, "log", file)
	})
}

var update = flag.Bool("update", false, "rewrite the files in testdata")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// stuckWriter is a reader's connection on which nothing moves: a write waits for
// its deadline.
type stuckWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *stuckWriter) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}

func (w *stuckWriter) Write([]byte) (int, error) {
	time.Sleep(time.Until(w.deadline))
	return 0, os.ErrDeadlineExceeded
}

func TestAFollowerThatIsStuckIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		appendLines(l, 0, 10)
		start := time.Now()
		ServeSSE(&stuckWriter{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/", nil), l, "x")
		require.Equal(t, writeTimeout, time.Since(start))
	})
}

func TestAFollowerThatLeavesIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fresh(t)
		appendLines(l, 0, 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		ServeSSE(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), l, "x")
		require.Equal(t, time.Hour, time.Since(start))
	})
}

// FuzzQuoted holds the strings of events to encoding/json.
func FuzzQuoted(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\x00\x1b[1m\"\\\t\u2028\u2029é█\U0001F600\xff\xed\xa0\x80\uFFFD"))
	f.Fuzz(func(t *testing.T, text []byte) {
		quoted := appendQuoted(nil, text)
		require.NotContains(t, string(quoted), "\n")
		require.NotContains(t, string(quoted), "\r")
		var got, want string
		require.NoError(t, json.Unmarshal(quoted, &got))
		theirs, err := json.Marshal(string(text))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(theirs, &want))
		require.Equal(t, want, got)
	})
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
