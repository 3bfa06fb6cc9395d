package kittapi_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// TestTheAgeOfACommandIsByTheServersClock has a server whose clock and zone are others
// than this machine's: a command that was handed out just now is as old as that.
func TestTheAgeOfACommandIsByTheServersClock(t *testing.T) {
	t.Parallel()
	for _, zone := range []time.Duration{0, 14 * time.Hour, -12 * time.Hour, 345 * time.Minute} {
		for _, skew := range []time.Duration{0, -24 * time.Hour, -25 * time.Hour, 40 * time.Hour, 7 * time.Minute, -8766 * time.Hour} {
			t.Run(fmt.Sprint(zone, skew), func(t *testing.T) {
				t.Parallel()
				location := time.FixedZone("there", int(zone/time.Second))
				srv, err := kittapitest.NewServer(kittapitest.Config{Now: func() time.Time { return time.Now().In(location) }})
				require.NoError(t, err)
				defer srv.Close()
				srv.SetClockSkew(skew)
				c, err := kittapi.New(kittapi.Config{URL: srv.URL})
				require.NoError(t, err)
				registered, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
				require.NoError(t, err)
				for _, model := range []string{"a", "b"} {
					_, _, err = srv.Launch("gpu-01", model)
					require.NoError(t, err)
				}
				_, _, err = srv.Launch("gpu-01", "", func(l *kittapitest.Test) { l.Engine = "cleanup" })
				require.NoError(t, err)
				for range 3 {
					_, err = c.Heartbeat(t.Context(), registered.AgentID, heartbeat.Beat{})
					require.NoError(t, err)
				}
				commands, err := c.Dispatched(t.Context(), "gpu-01")
				require.NoError(t, err)
				require.Len(t, commands, 3)
				for _, cmd := range commands {
					require.InDelta(t, 0, time.Since(cmd.CreatedAt).Seconds(), 60)
				}
			})
		}
	}
}
