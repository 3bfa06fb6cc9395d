package kittapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/heartbeat"
)

func TestFindAgent(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{AuthToken: "operator"})
	c := newClient(t, kittapi.Config{URL: s.URL})
	_, err := c.FindAgent(t.Context(), "gpu-1")
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)

	_, err = newClient(t, kittapi.Config{URL: s.URL, Token: "0123456789"}).Register(t.Context(), agent.Registration{Name: "gpu-1"})
	require.NoError(t, err)
	_, err = c.Register(t.Context(), agent.Registration{Name: "gpu/2 ü"})
	require.NoError(t, err)
	made := s.AddAgent("gpu-3")
	row, err := c.FindAgent(t.Context(), "gpu-1")
	require.NoError(t, err)
	info, _ := s.Agent("gpu-1")
	require.Equal(t, kittapi.AgentRow{ID: info.ID, Name: "gpu-1", Status: "online", TokenPrefix: "01234567", LastHeartbeat: row.LastHeartbeat}, row)
	_, ok := kittapi.ParseTime(row.LastHeartbeat)
	require.True(t, ok, row.LastHeartbeat)
	row, err = c.FindAgent(t.Context(), "gpu/2 ü")
	require.NoError(t, err)
	require.Empty(t, row.TokenPrefix)
	row, err = c.FindAgent(t.Context(), "gpu-3")
	require.NoError(t, err)
	require.Equal(t, kittapi.AgentRow{ID: made, Name: "gpu-3", Status: "provisioned"}, row)
	_, err = c.FindAgent(t.Context(), "GPU-1")
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)
}

// An answer that is not a list of agents is an error.
func TestFindAgentBelievesAListOnly(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `null`, `"[]"`, `<html>`, `[{"name":"gpu-1"}]`, `[1]`, `[{"id":"a","name":["gpu-1"]}]`, ``} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		_, err := newClient(t, kittapi.Config{URL: s.URL}).FindAgent(t.Context(), "gpu-1")
		s.Close()
		require.Error(t, err, body)
		require.NotErrorIs(t, err, heartbeat.ErrUnknownAgent, body)
	}
}
