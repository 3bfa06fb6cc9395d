package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// BenchmarkLongLines runs benchmarks that print 1 GB each, in lines of several
// lengths, as fast as they can, and reports how fast the server gets it, and what
// the agent has resident at its peak. The server takes log lines without looking
// at them.
func BenchmarkLongLines(b *testing.B) {
	const total = 1_000_000_000
	prog := buildProgram(b)
	for _, width := range []int{100, 1000, 10_000, 65_000, 1_000_000} {
		b.Run(fmt.Sprint(width), func(b *testing.B) {
			server, err := kittapitest.NewServer(kittapitest.Config{})
			require.NoError(b, err)
			defer server.Close()
			var received atomic.Int64
			front := httptest.NewServer(instantLogs(b, server.URL, &received))
			defer front.Close()
			server.AddAgent("chaos")
			d := newDaemon(b, prog, front.URL, "process")
			d.start()
			for b.Loop() {
				id, _, err := server.Launch("chaos", fmt.Sprintf("fake:lines.%d_width.%d_no-metrics", total/width, width))
				require.NoError(b, err)
				waitFor(b, b.Context(), "running", func() bool { row, _ := server.Test(id); return row.Status == "running" })
				began := time.Now()
				require.NoError(b, server.WaitForEnd(b.Context(), id), tail(d))
				b.ReportMetric(total/1e6/time.Since(began).Seconds(), "MB/s")
				row, _ := server.Test(id)
				require.Equal(b, "completed", row.Status, row.Error)
			}
			require.GreaterOrEqual(b, received.Load(), int64(total), "bytes of log")
			b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmHWM"), "MiB-peak")
			d.stop()
		})
	}
}

// instantLogs passes requests on to the server at address, but for log lines: it
// counts their bytes and drops them.
func instantLogs(b *testing.B, address string, received *atomic.Int64) http.Handler {
	target, err := url.Parse(address)
	require.NoError(b, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/logs") {
			proxy.ServeHTTP(w, r)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		received.Add(n)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
}
