package agent_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// TestACampaignsNextTestStartsSoon queues tests as a campaign does: it looks every 5 s,
// and queues the next test once the one before has ended.
func TestACampaignsNextTestStartsSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(10, time.Second)}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, 2*time.Minute), id))
		for range 10 {
			ended := time.Now()
			<-time.After(time.Duration(ended.UnixNano()%5000+1) * time.Millisecond) // until it looks
			id = srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
			require.Less(t, time.Since(ended), 12*time.Second)
			require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		}
	})
}

// TestRefusedCommandsFollowEachOther queues commands that make no sense: each is
// refused and brings the next.
func TestRefusedCommandsFollowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
		defer stop()
		var last string
		for range 20 {
			last = srv.Queue(heartbeat.Command{Type: "dance", Payload: json.RawMessage(`{}`)})
		}
		begun := time.Now()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), last, "failed"))
		require.Less(t, time.Since(begun), 35*time.Second)
	})
}

// TestACancelOnTheServerIsSeenSoon fails a test on the server while its benchmark runs
// and heartbeats are rare.
func TestACancelOnTheServerIsSeenSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var beats atomic.Int32
		srv := &agenttest.Server{Fault: func(kind string) error {
			if kind == "heartbeat" {
				beats.Add(1)
			}
			return nil
		}}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		for i := range 20 {
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
			<-time.After(time.Duration(200+i) * time.Second)
			before := beats.Load()
			srv.Fail(id, "Cancelled by user")
			cancelled := time.Now()
			for a.Status().Running {
				<-time.After(100 * time.Millisecond)
			}
			require.LessOrEqual(t, time.Since(cancelled), 10*time.Second)
			require.LessOrEqual(t, beats.Load()-before, int32(2), "no heartbeats for it")
		}
	})
}

// TestAHeartbeatOnRequest asks for one through the API.
func TestAHeartbeatOnRequest(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	srv := &agenttest.Server{Fault: func(kind string) error {
		if kind == "heartbeat" && away.Load() {
			return agenttest.ErrDown
		}
		return nil
	}}
	a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Token: "secret"})
	defer stop()
	<-a.Ready()
	api := httptest.NewServer(a.Handler())
	defer api.Close()
	c, err := client.New(client.Config{URL: api.URL, Token: "secret"})
	require.NoError(t, err)
	id, err := c.Heartbeat(t.Context())
	require.NoError(t, err)
	require.Equal(t, "id-of-gpu-01", id)

	before := len(srv.Beats())
	test := srv.Launch("m")
	_, err = c.Heartbeat(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(srv.Beats()), before)
	require.NoError(t, srv.WaitEnded(within(t, 20*time.Second), test))

	away.Store(true)
	_, err = c.Heartbeat(t.Context())
	require.ErrorContains(t, err, "connection refused")

	resp, err := http.Post(api.URL+"/api/heartbeat", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	stop()
	_, err = c.Heartbeat(t.Context())
	require.ErrorContains(t, err, "takes no commands")
}
