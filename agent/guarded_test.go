package agent_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	native "github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// hung is everything that a program may bring, none of which heeds its context.
type hung struct {
	*storagetest.Fake
	until chan struct{}
}

func (h hung) Detect(context.Context) (*hwdetect.Machine, error) {
	<-h.until
	return &hwdetect.Machine{Hostname: "late"}, nil
}

func (h hung) Telemetry(context.Context) (hwdetect.Telemetry, error) {
	<-h.until
	return hwdetect.Telemetry{}, nil
}

func (h hung) Usage(context.Context) (storage.Usage, error) {
	<-h.until
	return storage.Usage{FreeBytes: 5 << 30}, nil
}

func (h hung) engines() []native.Status {
	<-h.until
	return []native.Status{{Name: "ollama"}}
}

func (h hung) warnings(context.Context) []string {
	<-h.until
	return []string{"the certificate expires"}
}

// A dead network file system or driver holds up neither heartbeats nor jobs nor
// status, and what it answers at last counts.
func TestWhatHangsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		h := hung{Fake: &storagetest.Fake{}, until: make(chan struct{})}
		var log strings.Builder
		a, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: prints(3, time.Second)}, Detector: h, Storage: h, Engines: detecting(h.engines), Warnings: h.warnings,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		<-time.After(10 * time.Second)
		require.NotEmpty(t, srv.Beats())
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, 2*time.Minute), id, "completed"))
		require.Empty(t, a.Status().Warnings)
		require.NoError(t, a.Alive())
		<-time.After(time.Hour)
		require.Equal(t, 1, strings.Count(log.String(), `what=engines err="no answer within 10s"`), "said once, and asked once")

		close(h.until)
		<-time.After(15 * time.Minute)
		last := srv.Beats()[len(srv.Beats())-1]
		require.Equal(t, []heartbeat.Engine{{Engine: "ollama"}}, last.Engines)
		require.Equal(t, new(int64(5<<30)), last.StorageFree)
		require.Equal(t, []string{"the certificate expires"}, a.Status().Warnings)
		require.Equal(t, "late", srv.Registrations()[len(srv.Registrations())-1].Machine.Hostname)
		stop()
	})
}
