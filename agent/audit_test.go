package agent_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/policy"
)

// A trail keeps entries.
type trail struct {
	mu      sync.Mutex
	entries []policy.Entry
}

func (t *trail) add(e policy.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries = append(t.entries, e)
}

// lines returns the entries so far as texts, and forgets them.
func (t *trail) lines() (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		did := "allowed"
		if !e.Allowed {
			did = "refused: " + e.Rule
		}
		lines = append(lines, strings.Join([]string{e.Who, e.From, e.Request, e.Subject, did}, "|"))
	}
	t.entries = nil
	return lines
}

func TestAuditTrail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, kept := &agenttest.Server{}, &trail{}
		a, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: prints(1, 0)}, Token: "secret-token", Secrets: []string{"secret-token"},
			Policy: policy.Default(policy.Machine{Home: "/home/agent"}), Audit: kept.add,
		})
		defer stop()
		id := srv.Launch("org/model")
		require.NoError(t, srv.Wait(t.Context(), id, "completed"))
		require.Equal(t, []string{"server||run_test|org/model|allowed"}, kept.lines())
		id = srv.Launch("../secret-token")
		require.NoError(t, srv.Wait(t.Context(), id, "failed"))
		require.Equal(t, []string{"server||run_test|../[redacted]|refused: Invalid model_path: ../[redacted] leads out of its directory with .."}, kept.lines())

		srv.Set("kitt_image", "evil")
		srv.Set("auto_cleanup", "false")
		time.Sleep(5 * time.Minute)
		lines := kept.lines()
		require.Len(t, lines, 2, "what stays the same is no news")
		require.Equal(t, "server||set auto_cleanup|false|allowed", lines[0])
		require.Contains(t, lines[1], "server||set kitt_image|evil|refused: kitt_image \"evil\" from the server is ignored: it is not one of the images")

		call := func(token, body string) int {
			r := httptest.NewRequest(http.MethodPost, "/api/commands", strings.NewReader(body))
			r.RemoteAddr = "192.0.2.7:1234"
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			return w.Code
		}
		require.Equal(t, http.StatusAccepted, call("secret-token", `{"type":"run_test","command_id":"c1","payload":{"model_path":"m:1"}}`))
		require.Equal(t, http.StatusBadRequest, call("secret-token", `{"type":"run_container","payload":{"model_path":"m"}}`))
		require.Equal(t, http.StatusNotFound, call("secret-token", `{"type":"cancel","command_id":"c2"}`))
		lines = kept.lines()
		require.Equal(t, "caller|192.0.2.7:1234|run_test|m:1|allowed", lines[0])
		require.Contains(t, lines[1], "caller|192.0.2.7:1234|run_container|m|refused: Unsupported command type")
		require.Equal(t, "caller|192.0.2.7:1234|cancel|c2|refused: no such job", lines[2])
		for range 100 {
			require.Equal(t, http.StatusUnauthorized, call("wrong", `{}`))
		}
		lines = kept.lines()
		require.Len(t, lines, 20, "anybody can send these")
		require.Equal(t, "caller|192.0.2.7:1234|POST /api/commands||refused: the caller does not present the agent's token", lines[0])
		time.Sleep(time.Minute)
		call("wrong", `{}`)
		require.Equal(t, 80, kept.entries[0].Omitted)
		_, err := a.Submit(agent.Benchmark{Model: "m:2"})
		require.NoError(t, err)
		require.Equal(t, "program||run_test|m:2|allowed", kept.lines()[1])
	})
}
