package agent_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// ask asks an agent's Handler, as a server of the program's own would, from this
// machine.
func ask(t *testing.T, a *agent.Agent, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:8090", "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w
}

// A program that starts its agent anew may still hold the one before, or serve
// its Handler.
func TestAnAgentThatHasStoppedLeavesItsJobsToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		dir := t.TempDir()
		before, stop := start(t, agent.Config{Server: srv, Dir: dir, Runner: &play{run: hangs}})
		running, waiting := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), running, "running"))
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), waiting, "dispatched"))
		synctest.Wait()
		stop()
		require.ErrorContains(t, before.Alive(), "not running")

		now, stop := start(t, agent.Config{Server: srv, Dir: dir, Runner: &play{run: hangs}})
		defer stop()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), waiting, "running"))
		synctest.Wait()
		before.CancelAll("user")
		require.ErrorIs(t, before.Cancel(within(t, time.Minute), waiting, "user"), agent.ErrNotAccepting)
		cancelled := ask(t, before, "POST", "/api/commands", `{"type":"cancel","test_id":"`+waiting+`"}`)
		require.Equal(t, http.StatusServiceUnavailable, cancelled.Code)
		require.Equal(t, http.StatusServiceUnavailable, ask(t, before, "GET", "/api/logs/"+waiting, "").Code)

		require.Equal(t, agent.StateRunning, now.Status().Jobs[0].State)
		require.NoError(t, now.Cancel(within(t, time.Minute), waiting, "somebody else"))
		require.NoError(t, srv.Wait(within(t, time.Minute), waiting, "failed"))
		_, reason := srv.Status(waiting)
		require.Equal(t, "Cancelled by somebody else", reason)
	})
}

func TestReadersOfAServerOfOnesOwnEndWithTheAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		running, waiting := srv.Launch("a"), srv.Launch("b")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), running, "running"))
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), waiting, "dispatched"))
		synctest.Wait()
		read := make(chan string, 2)
		for _, id := range []string{running, waiting} {
			go func() { read <- ask(t, a, "GET", "/api/logs/"+id, "").Body.String() }()
		}
		synctest.Wait()
		require.Empty(t, read)
		stop()
		require.Contains(t, <-read+<-read, "hanging")
	})
}
