package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// probe asks one of the pages for monitors, from this machine or another one.
func probe(t *testing.T, a *agent.Agent, path, from string) (code int, status, reason string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	r.Host, r.RemoteAddr = "10.0.0.7:8090", from
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	var answer struct{ Status, Error string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	return w.Code, answer.Status, answer.Error
}

// TestReadyIsWhatTheServerAccepts follows an agent through the states of
// its server. It works in all of them.
func TestReadyIsWhatTheServerAccepts(t *testing.T) {
	refused := &reporter.RejectedError{Code: 403, Message: "Invalid token for this agent"}
	away := errors.New("connection refused")
	type state struct {
		after          string // what the server does then, by name
		fault          error
		status, reason string // of /readyz
	}
	up := state{after: "accepts", status: "ready"}
	for name, states := range map[string][]state{
		"refused from the start": {
			{"refuses", refused, "refused", "the server refuses this agent: register: Invalid token for this agent"}, up,
		},
		"without its token": {
			{"asks for a token", fmt.Errorf("%w: Missing authorization", heartbeat.ErrUnauthorized), "refused", "the server refuses this agent: register: not authorized: Missing"}, up,
		},
		"never reached": {
			{"is away", away, "unregistered", "the server has not accepted the agent yet: register: connection refused"}, up,
		},
		"token replaced": {
			up,
			{"refuses", refused, "refused", "the server refuses this agent: heartbeat: Invalid token"},
			{"is away after that", away, "refused", "the server refuses this agent: heartbeat: Invalid token"},
			up,
			{"is away", away, "ready", ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var fault atomic.Pointer[error]
				srv := &agenttest.Server{Fault: func(string) error {
					if err := fault.Load(); err != nil {
						return *err
					}
					return nil
				}}
				cfg := agent.Config{Server: srv, Runner: &play{run: hangs}, Token: apiToken}
				fault.Store(&states[0].fault)
				a, stop := start(t, cfg)
				defer stop()
				for _, s := range states {
					fault.Store(&s.fault)
					time.Sleep(3 * time.Minute)
					synctest.Wait()
					code, status, reason := probe(t, a, "/readyz", "127.0.0.1:5")
					require.Equal(t, s.status, status, s.after)
					require.Equal(t, s.reason == "", code == http.StatusOK, s.after)
					require.Contains(t, reason, s.reason, s.after)
					require.Equal(t, reason, a.Status().Degraded, s.after)

					strange, status, reason := probe(t, a, "/readyz", "10.0.0.9:5")
					require.Equal(t, code, strange)
					require.Equal(t, s.status, status)
					require.NotContains(t, reason, "register", "what the server said is for this machine's users")
					require.Equal(t, s.reason == "", reason == "")

					code, _, _ = probe(t, a, "/healthz", "127.0.0.1:5")
					require.Equal(t, http.StatusOK, code, "%s: it lives", s.after)
				}
			})
		})
	}
}

func TestNotReadyBeforeItStartsAndWhileItStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a := newIdle(t, agent.Config{})
		code, status, reason := probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, []any{503, "stopped", "the agent was not started"}, []any{code, status, reason})

		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "running"))
		code, _, _ = probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, 200, code)
		a.Drain()
		code, status, reason = probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, []any{503, "stopping", "the agent is stopping and takes no commands"}, []any{code, status, reason})
		stop()
		code, status, _ = probe(t, a, "/readyz", "127.0.0.1:5")
		require.Equal(t, []any{503, "stopping"}, []any{code, status})
	})
}
