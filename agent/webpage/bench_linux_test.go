package webpage_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/webpage"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// BenchmarkViewer is what one viewer costs the agent in a second, on a machine with eight
// GPUs and a thousand kept jobs: a reading of the GPUs, and the view once, as while a
// model is copied. Otherwise the view is asked for every 5 s. The limit is 10 ms, 1 % of
// a core.
func BenchmarkViewer(b *testing.B) {
	m, ok := hwdetect.Profile("h100-8")
	require.True(b, ok)
	page := everything()
	a, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: b.TempDir(), Server: &agenttest.Server{}, Runner: &runnertest.Fake{}, Detector: &hwdetect.Static{Machine: m}, MaxConcurrentJobs: 64,
		Page: func(a *agent.Agent) http.Handler {
			page.Agent = a
			return webpage.New(page)
		},
	})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(b, <-done)
	}()
	<-a.Ready()
	for i := range 1000 {
		id, err := a.Submit(agent.Benchmark{Model: fmt.Sprint("m", i)})
		require.NoError(b, err)
		_, err = a.Wait(ctx, id)
		require.NoError(b, err)
	}
	handler := a.Handler()
	for _, view := range []string{"/", "/gpus", "/jobs"} {
		b.Run(view, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				for _, path := range []string{view, "/gpus.json"} {
					r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
					r.Host, r.RemoteAddr = "127.0.0.1", "127.0.0.1:1"
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, r)
					require.Equal(b, http.StatusOK, w.Code)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e7, "%core")
		})
	}
}

// cpuTime returns the processor time that this process has taken.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
