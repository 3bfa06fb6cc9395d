package agent_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// containerPlay is a runner that has a container engine.
type containerPlay struct {
	play
	down atomic.Bool
}

func (c *containerPlay) Ready(ctx context.Context) error {
	if c.down.Load() {
		<-ctx.Done() // an engine that hangs
		return ctx.Err()
	}
	return nil
}

func (c *containerPlay) Engines(ctx context.Context) ([]string, error) {
	if err := c.Ready(ctx); err != nil {
		return nil, errors.New("no engine answers")
	}
	return []string{"vllm", "ollama"}, nil
}

// checkDocker returns what the agent answers to check_docker.
func checkDocker(a *agent.Agent) string {
	req := httptest.NewRequest("POST", "/api/commands", strings.NewReader(`{"type": "check_docker"}`))
	req.RemoteAddr, req.Host = "127.0.0.1:1", "localhost"
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, req)
	return w.Body.String()
}

// What the server and callers are told of containers comes from the Runner, which
// may be wrapped. One that hangs delays neither the registration nor an answer for
// long.
func TestContainersOfTheRunner(t *testing.T) {
	for _, tt := range []struct {
		name   string
		runner func() (run runner.Runner, down *atomic.Bool)
		want   []string
	}{
		{"none", func() (runner.Runner, *atomic.Bool) { return &play{run: hangs}, nil }, nil},
		{"plain", func() (runner.Runner, *atomic.Bool) {
			c := &containerPlay{play: play{run: hangs}}
			return c, &c.down
		}, []string{"vllm", "ollama"}},
		{"wrapped", func() (runner.Runner, *atomic.Bool) {
			c := &containerPlay{play: play{run: hangs}}
			return countedRunner{runner.NewFallback(c), new(atomic.Int64)}, &c.down
		}, []string{"vllm", "ollama"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run, down := tt.runner()
				srv := &agenttest.Server{}
				cfg := agent.Config{Server: srv, Runner: run, Dir: t.TempDir()}
				a, stop := start(t, cfg)
				<-a.Ready()
				time.Sleep(time.Second)
				require.Equal(t, tt.want, srv.Registrations()[0].Capabilities)
				answers := `{"available":true}`
				if tt.want == nil {
					answers = `{"available":false}`
				}
				require.JSONEq(t, answers, checkDocker(a))
				if down != nil {
					down.Store(true)
					require.JSONEq(t, `{"available":false}`, checkDocker(a))
				}
				stop()
				_, stop = start(t, cfg)
				defer stop()
				time.Sleep(15 * time.Second)
				require.Len(t, srv.Registrations(), 2)
				if down != nil {
					require.Nil(t, srv.Registrations()[1].Capabilities)
				}
			})
		})
	}
}
