package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeartbeatCommand(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	accept := true
	m.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/heartbeat" {
			http.Error(w, `{"error":"Not found"}`, http.StatusNotFound)
			return
		}
		if !accept {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"error":"heartbeat: connection refused"}`)
			return
		}
		_, _ = io.WriteString(w, `{"agent_id":"d802cb05fd8a4b38"}`)
	})
	got := m.run("heartbeat")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, "the server accepted the heartbeat of agent d802cb05fd8a4b38\n", got.out)

	accept = false
	got = m.run("heartbeat")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "heartbeat: connection refused")
	require.Equal(t, exitUsage, m.run("heartbeat", "now").code)
}
