package kittapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// TestTokensAreReadAgain has a server accept one token for agents and one for logs, and
// the tokens change.
func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	var requests, reads atomic.Int32
	var want, wantServer atomic.Value
	want.Store("new")
	wantServer.Store("new-server")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		token := want.Load().(string)
		if strings.HasSuffix(r.URL.Path, "/logs") {
			token = wantServer.Load().(string)
		}
		switch r.Header.Get("Authorization") {
		case "Bearer " + token:
			wrote(200, "application/json", `{"ok":true,"accepted":true}`)(w, r)
		case "":
			wrote(401, "application/json", `{"error":"Missing authorization"}`)(w, r)
		default:
			wrote(403, "application/json", `{"error":"Invalid token for this agent"}`)(w, r)
		}
	}))
	defer srv.Close()
	var current atomic.Value
	current.Store([2]agent.Secret{"old", "old-server"})
	c, err := kittapi.New(kittapi.Config{URL: srv.URL, Token: "old", ServerToken: "old-server", ReadTokens: func() (agent.Secret, agent.Secret) {
		reads.Add(1)
		now := current.Load().([2]agent.Secret)
		return now[0], now[1]
	}})
	require.NoError(t, err)

	require.ErrorContains(t, c.ReportLog(t.Context(), "t", "x"), "Invalid token")
	require.EqualValues(t, 1, requests.Load(), "the same token is not sent again")
	current.Store([2]agent.Secret{"new", "new-server"})
	require.NoError(t, c.ReportLog(t.Context(), "t", "x"))
	require.EqualValues(t, 3, requests.Load())
	data := strings.NewReader(`{"model":"m"}`)
	require.NoError(t, c.ReportEncodedResult(t.Context(), "a", reporter.EncodedResult{Data: data, Size: data.Size()}))
	require.EqualValues(t, 4, requests.Load(), "the other token was read with it")
	require.EqualValues(t, 2, reads.Load())

	want.Store("newer")
	current.Store([2]agent.Secret{"with blank", ""})
	require.Error(t, c.ReportResult(t.Context(), "a", reporter.Result{}), "a token that no header can hold is not used")
	current.Store([2]agent.Secret{"newer", ""})
	require.NoError(t, c.ReportResult(t.Context(), "a", reporter.Result{}))
}
