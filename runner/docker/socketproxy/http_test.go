package socketproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dialProxy serves p and returns a connection to it.
func dialProxy(t *testing.T, p *Proxy) *net.TCPConn {
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return conn.(*net.TCPConn)
}

// statuses reads n answers and returns their statuses.
func statuses(t *testing.T, conn net.Conn, n int) (all []int) {
	from := bufio.NewReader(conn)
	for range n {
		answer, err := http.ReadResponse(from, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		all = append(all, answer.StatusCode)
	}
	return all
}

// TestPipelining hides requests behind others, in the ways in which two parsers of HTTP
// may differ. Each is looked at by itself.
func TestPipelining(t *testing.T) {
	t.Parallel()
	const create = `{"Image":"ollama/ollama"}`
	evil := "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n" + `{"Image":"alpine"}`
	for name, tt := range map[string]struct {
		text string
		want []int
	}{
		"two in one write": {fmt.Sprintf("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s%s", len(create), create, evil), []int{201, 403}},
		"chunked": {
			fmt.Sprintf("POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n%s", len(create), create, evil), []int{201, 403},
		},
		"a body where none belongs": {
			fmt.Sprintf("POST /containers/%s/start HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", mine, len(evil), evil) + evil, []int{200, 403},
		},
		"both lengths": {
			"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400},
		},
		"two lengths":     {"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", []int{400}},
		"odd chunks":      {"POST /containers/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", []int{501}},
		"an upgrade":      {"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + evil, []int{200, 403}},
		"expect":          {"POST /containers/create HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n", []int{100}},
		"a full address":  {"GET http://docker/info HTTP/1.1\r\nHost: x\r\n\r\n", []int{403}},
		"another version": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{403}},
	} {
		s, p := newProxy(t, nil)
		conn := dialProxy(t, p)
		_, err := io.WriteString(conn, tt.text)
		require.NoError(t, err)
		require.Equal(t, tt.want, statuses(t, conn, len(tt.want)), name)
		for _, r := range s.changes() {
			require.NotContains(t, r.body, "alpine", name)
			require.Empty(t, r.header.Get("Upgrade"), name)
		}
	}
}

// TestRelayedHeaders passes on what clients need, and nothing of a client's.
func TestRelayedHeaders(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, nil)
	r := httpRequest("POST", "/images/create?fromImage=ollama/ollama")
	r.Header.Set("X-Registry-Auth", "e30=")
	r.Header.Set("X-Registry-Config", "evil")
	r.Header.Set("Cookie", "x")
	w := &recorder{}
	p.ServeHTTP(w, r)
	require.Equal(t, "1.41", w.Header().Get("Api-Version"))
	require.Empty(t, w.Header().Get("X-Secret"))
	require.Equal(t, "e30=", s.last().header.Get("X-Registry-Auth"))
	require.Empty(t, s.last().header.Get("X-Registry-Config"))
	require.Empty(t, s.last().header.Get("Cookie"))
	r.Header.Set("X-Registry-Auth", "e30=, evil")
	p.ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.status)
}

// TestLateBuild answers a client that is still sending.
func TestLateBuild(t *testing.T) {
	t.Parallel()
	_, p := newProxy(t, nil)
	conn := dialProxy(t, p)
	const size = 8 << 20
	_, err := fmt.Fprintf(conn, "POST /build?t=kitt/vllm:arm64 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	require.NoError(t, err)
	_, err = conn.Write(bytes.Repeat([]byte("x"), size))
	require.NoError(t, err)
	require.Equal(t, []int{403}, statuses(t, conn, 1))
}

// An echo is an engine that runs one command: it prints what it read once its input has
// ended.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/start"):
			body, _ := io.ReadAll(r.Body)
			conn, buffered, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			input, _ := io.ReadAll(buffered)
			fmt.Fprintf(conn, "%s %s read %d", r.Header.Get("Upgrade"), body, len(input))
		case strings.Contains(r.URL.Path, "/exec/"):
			fmt.Fprintf(w, `{"ContainerID":%q}`, mine)
		default:
			fmt.Fprintf(w, `{"Id":%q,"Config":{"Labels":{"io.kitt.engine":"job-1"}}}`, mine)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "tcp://" + listener.Addr().String()
}

// TestStreams gives a command input and closes that half of the connection. The output
// comes afterwards. The first of the input is in the same write as the request.
func TestStreams(t *testing.T) {
	t.Parallel()
	engine := echo(t)
	_, p := newProxy(t, func(p *Policy) { p.Engine = engine })
	conn := dialProxy(t, p)
	const body = `{"Detach":false,"Tty":false,"Evil":1}`
	_, err := fmt.Fprintf(conn, "POST /v1.41/exec/%s/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%sFROM x\n",
		myExec, len(body), body)
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	answer, err := http.ReadResponse(from, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	_, err = conn.Write(bytes.Repeat([]byte("y"), 1<<20))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	output, err := io.ReadAll(from)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(`tcp {"Detach":false,"Tty":false} read %d`, 1<<20+7), string(output))
}
