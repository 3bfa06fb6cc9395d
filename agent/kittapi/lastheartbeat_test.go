package kittapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/heartbeat"
)

func TestLastHeartbeat(t *testing.T) {
	t.Parallel()
	srv, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer srv.Close()
	c, err := kittapi.New(kittapi.Config{URL: srv.URL})
	require.NoError(t, err)
	_, err = c.LastHeartbeat(t.Context(), "", "gpu-01")
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)

	srv.AddAgent("gpu-01")
	never, err := c.LastHeartbeat(t.Context(), "", "gpu-01")
	require.NoError(t, err)
	require.Equal(t, agent.Sighting{Offline: true}, never)

	registered, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	first, err := c.LastHeartbeat(t.Context(), registered.AgentID, "gpu-01")
	require.NoError(t, err)
	require.False(t, first.At.IsZero())
	require.False(t, first.Offline)

	_, err = c.Heartbeat(t.Context(), registered.AgentID, heartbeat.Beat{})
	require.NoError(t, err)
	second, err := c.LastHeartbeat(t.Context(), "0123456789abcdef", "gpu-01") // an id of another server
	require.NoError(t, err)
	require.True(t, second.At.After(first.At))

	srv.SetClockSkew(2 * time.Minute)
	offline, err := c.LastHeartbeat(t.Context(), "", "gpu-01")
	require.NoError(t, err)
	require.Equal(t, agent.Sighting{At: second.At, Offline: true}, offline)
}
