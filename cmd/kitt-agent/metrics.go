package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/metrics"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// metricsTimeout bounds each step of a scrape at metrics_listen.
const metricsTimeout = 15 * time.Second

// An exporter serves the agent's metrics. A nil one serves none.
type exporter struct {
	metrics  *metrics.Metrics
	listener net.Listener // nil if the agent's API serves them
}

// openMetrics returns what serves metrics as cfg says, and has the agent's API serve them
// if they have no address of their own.
func openMetrics(cfg *config.Config, to *agent.Config) (*exporter, error) {
	if !cfg.ServesMetrics() {
		return nil, nil
	}
	e := &exporter{metrics: metrics.New()}
	if cfg.MetricsListen == "" {
		to.Metrics = e.metrics.Handler()
		return e, nil
	}
	var err error
	if e.listener, err = net.Listen("tcp", cfg.MetricsListen); err != nil {
		return nil, fmt.Errorf("metrics: %w; choose another address with metrics_listen in agent.yaml", err)
	}
	return e, nil
}

// Close closes the listener of an exporter that was not started.
func (e *exporter) Close() error {
	if e == nil || e.listener == nil {
		return nil
	}
	return e.listener.Close()
}

// start follows a and serves its metrics until ctx is done. Its goroutines are added to
// group.
func (e *exporter) start(ctx context.Context, group *sync.WaitGroup, a *agent.Agent, log *slog.Logger) {
	if e == nil {
		return
	}
	events := a.Events(ctx)
	group.Go(func() { e.metrics.Follow(a, events) })
	if e.listener == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.metrics.Handler())
	server := &http.Server{
		Handler: mux, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("metrics served", "listening", e.listener.Addr().String())
	group.Go(func() {
		if err := server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "err", err)
		}
	})
	group.Go(func() {
		<-ctx.Done()
		_ = server.Close() // a scrape is cut off
	})
}
