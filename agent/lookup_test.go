package agent_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// A command whose delivery was the last that an outage let through is found
// within a minute and a half of the agent's return, however long the outage was.
func TestLostCommandIsFoundAfterALongOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var down, losing atomic.Bool
		srv := &agenttest.Server{
			Fault: func(string) error {
				if down.Load() {
					return agenttest.ErrDown
				}
				return nil
			},
			LoseAnswer: func(kind string) error {
				if kind == "heartbeat" && losing.Swap(false) {
					down.Store(true)
					return errors.New("cut")
				}
				return nil
			},
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
		time.Sleep(5 * time.Second)
		id := srv.Launch("m")
		losing.Store(true)
		time.Sleep(10 * time.Minute)
		require.True(t, down.Load())
		require.Greater(t, a.Status().Server.FailingFor, 7)
		status, _ := srv.Status(id)
		require.Equal(t, "dispatched", status)

		down.Store(false)
		time.Sleep(30*time.Second + 90*time.Second)
		status, _ = srv.Status(id)
		require.Equal(t, "completed", status)
		stop()
	})
}
