package agent_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// encodedServer takes results as they are encoded. At first it takes none, and from
// the first one on no heartbeats.
type encodedServer struct {
	*agenttest.Server

	mu     sync.Mutex
	away   bool
	checks int
	bodies []string // of each try
}

func (s *encodedServer) CheckResult(data map[string]any) (map[string]any, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks++
	return data, nil
}

func (s *encodedServer) ReportEncodedResult(ctx context.Context, id string, r reporter.EncodedResult) error {
	body, err := io.ReadAll(io.NewSectionReader(r.Data, 0, r.Size))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.bodies = append(s.bodies, string(body))
	away := s.away
	s.mu.Unlock()
	if away {
		return agenttest.ErrDown
	}
	decoded, err := r.Decode()
	if err != nil {
		return err
	}
	return s.ReportResult(ctx, id, decoded)
}

func (s *encodedServer) fault(kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away && len(s.bodies) > 0 && (kind == "register" || kind == "heartbeat") {
		return agenttest.ErrDown
	}
	return nil
}

func (s *encodedServer) set(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// TestAResultIsEncodedOnce has a server refuse a result for hours, over a restart
// of the agent: the result is checked once, and sent with the same bytes each
// time.
func TestAResultIsEncodedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, dir := &encodedServer{Server: &agenttest.Server{}, away: true}, t.TempDir()
		srv.Fault = srv.fault
		cfg := agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Dir: dir}
		_, stop := start(t, cfg)
		id := srv.Launch("<m>")
		<-time.After(time.Hour)
		stop()
		_, stop = start(t, cfg)
		defer stop()
		<-time.After(time.Hour)
		status, _ := srv.Status(id)
		require.Equal(t, "running", status)
		srv.set(false)
		require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))

		require.Equal(t, "<m>", srv.Results()[0].Data["model"])
		require.Len(t, srv.Results(), 1)
		require.Equal(t, 1, srv.checks)
		require.Greater(t, len(srv.bodies), 100)
		for _, body := range srv.bodies {
			require.Equal(t, srv.bodies[0], body)
		}
	})
}
