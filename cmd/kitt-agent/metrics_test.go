package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// freeAddress returns an address of this machine that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// scrape returns the status and the body of GET /metrics.
func scrape(t *testing.T, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// TestDaemonServesMetrics starts the real program with metrics at its API, at an address
// of their own, and without.
func TestDaemonServesMetrics(t *testing.T) {
	t.Parallel()
	own := freeAddress(t)
	for name, tt := range map[string]struct {
		setting      string
		atAPI, atOwn bool
	}{
		"by default":  {"", true, false},
		"own address": {"metrics_listen: " + own, false, true},
		"turned off":  {"metrics: false", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d := startLocalDaemon(t, time.Minute, tt.setting)
			code, body := scrape(t, fmt.Sprintf("127.0.0.1:%d", d.port))
			require.Equal(t, tt.atAPI, code == http.StatusOK, body)
			require.True(t, tt.atAPI || code == http.StatusNotFound, "the page for people is not for Prometheus")
			if tt.atOwn {
				code, body = scrape(t, own)
				require.Equal(t, http.StatusOK, code)
			}
			if tt.atAPI || tt.atOwn {
				require.Contains(t, body, "kitt_agent_server_registered ")
				require.Contains(t, body, "process_resident_memory_bytes")
			}
		})
	}
}
