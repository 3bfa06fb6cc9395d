package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// TestARotatedTokenNeedsNoRestart rotates an agent's token on the server and writes the
// new one into agent.yaml: the running agent takes it, for its server and its callers.
func TestARotatedTokenNeedsNoRestart(t *testing.T) {
	t.Parallel()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	d := newDaemon(t, buildProgram(t), server.URL, "simulated")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	m := newMachine(t)
	m.vars["KITT_HOME"] = d.home
	require.Equal(t, exitOK, m.run("heartbeat").code)

	token := server.RotateToken("chaos")
	refused := m.run("heartbeat")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "Invalid token")

	file := filepath.Join(d.home, "agent.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	text = []byte(strings.Replace(string(text), "chaos-token-0123456789", token, 1))
	require.NoError(t, os.WriteFile(file, text, 0o600))
	require.NoError(t, server.Wait(ctx, func() bool {
		got := m.run("heartbeat") // with the new token
		return got.code == exitOK
	}), tail(d))
	require.Equal(t, exitOK, m.run("status").code)

	// The old one is dead here too.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/api/engines", d.port), nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer chaos-token-0123456789")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
}
