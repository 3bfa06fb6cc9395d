package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// TestConnectionsTakeNoFilesFromTheAgent floods an agent that may open few files with
// connections of callers that send half a request. Heartbeats and a benchmark go on, and
// the operator on the machine gets through.
func TestConnectionsTakeNoFilesFromTheAgent(t *testing.T) {
	t.Parallel()
	outside := addressOfThisMachine(t)
	prog := buildProgram(t)
	limited := filepath.Join(filepath.Dir(prog.path), "limited")
	require.NoError(t, os.WriteFile(limited, fmt.Appendf(nil, "#!/bin/sh\nulimit -n 100\nexec %s \"$@\"\n", prog.path), 0o700))
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	d := newDaemon(t, program{path: limited, bin: prog.bin}, server.URL, "process")
	config := filepath.Join(d.home, "agent.yaml")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(config, bytes.Replace(text, []byte("listen: 127.0.0.1"), []byte("listen: 0.0.0.0"), 1), 0o600))
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))

	// The agent knows a little later than its server that it was accepted.
	require.Eventually(t, func() bool { return undelivered(d) == 0 }, time.Minute, 50*time.Millisecond, tail(d))

	var flood sync.WaitGroup
	flooding, stop := context.WithCancel(ctx)
	for range 120 {
		flood.Go(func() { holdConnections(flooding, net.JoinHostPort(outside, fmt.Sprint(d.port))) })
	}
	defer flood.Wait()
	defer stop()
	require.Eventually(t, func() bool { return strings.Contains(d.out.String(), "connection to the API refused") }, time.Minute, 10*time.Millisecond, tail(d))

	id, _, err := server.Launch("chaos", "fake:lines.100_delay.20ms")
	require.NoError(t, err)
	require.Equal(t, 0, undelivered(d), "the operator does not get through")
	require.NoError(t, server.WaitForEnd(ctx, id), tail(d))
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	require.NotContains(t, d.out.String(), "too many open files")
}

// holdConnections connects to addr, sends half a request and waits for the other end to
// close, again and again until ctx is done.
func holdConnections(ctx context.Context, addr string) {
	var dialer net.Dialer
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", addr)
		if err != nil {
			continue
		}
		closed := context.AfterFunc(ctx, func() { _ = conn.Close() })
		_, _ = fmt.Fprint(conn, "GET /api/status HTTP/1.1\r\n") // the agent may have closed it
		_, _ = conn.Read(make([]byte, 1))
		closed()
		_ = conn.Close()
	}
}

// addressOfThisMachine returns an IPv4 address of this machine that is not a loopback one.
func addressOfThisMachine(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("SKIPPED: this machine has no address but loopback")
	return ""
}
