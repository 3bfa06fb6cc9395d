package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/storage"
)

// mute is a server that answers no heartbeat until it is let go. A polite one
// gives up when the request's time is over.
type mute struct {
	*agenttest.Server
	polite bool
	letGo  chan struct{}
}

func (m mute) Heartbeat(ctx context.Context, id string, beat heartbeat.Beat) (heartbeat.Answer, error) {
	var over <-chan struct{}
	if m.polite {
		over = ctx.Done()
	}
	select {
	case <-m.letGo:
		return m.Server.Heartbeat(ctx, id, beat)
	case <-over:
		return heartbeat.Answer{}, ctx.Err()
	}
}

func TestAliveWhileTheServerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := mute{&agenttest.Server{}, true, make(chan struct{})}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		<-a.Ready()
		for range 24 * 60 {
			time.Sleep(time.Minute)
			require.NoError(t, a.Alive())
		}
		require.Empty(t, srv.Beats())
		close(srv.letGo)
		time.Sleep(10 * time.Minute)
		require.NoError(t, a.Alive())
		require.NotEmpty(t, srv.Beats())
	})
}

func TestAliveWhileABenchmarkRunsForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(100, time.Hour)}})
		defer stop()
		id := srv.Launch("m")
		for range 101 {
			time.Sleep(time.Hour)
			require.NoError(t, a.Alive())
		}
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
	})
}

func TestStuckHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := mute{&agenttest.Server{}, false, make(chan struct{})}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		<-a.Ready()
		time.Sleep(2 * time.Minute)
		require.NoError(t, a.Alive())
		time.Sleep(time.Minute)
		require.ErrorContains(t, a.Alive(), "the heartbeat loop should have continued 30s ago")
		close(srv.letGo)
		synctest.Wait()
		require.NoError(t, a.Alive())
	})
}

// jammed is a storage whose Plan waits until it is let go.
type jammed struct {
	storage.Storage
	letGo chan struct{}
}

func (j jammed) Plan([]string) { <-j.letGo }

func (j jammed) Usage(context.Context) (storage.Usage, error) { return storage.Usage{}, nil }

func TestStuckTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Storage: jammed{letGo: letGo}})
		defer stop()
		<-a.Ready()
		require.NoError(t, a.Alive())
		time.Sleep(3 * time.Minute)
		require.ErrorContains(t, a.Alive(), "scheduling should have continued")
		close(letGo)
		synctest.Wait()
		require.NoError(t, a.Alive())
	})
}

// sweeping is a runner whose Sweep waits until it is let go.
type sweeping struct {
	play
	letGo chan struct{}
}

func (s *sweeping) Sweep(context.Context, func(string) bool, time.Duration) ([]string, error) {
	<-s.letGo
	return nil, nil
}

func TestStuckHousekeeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := &sweeping{play: play{run: hangs}, letGo: make(chan struct{})}
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: run})
		defer stop()
		<-a.Ready()
		time.Sleep(11 * time.Minute)
		require.ErrorContains(t, a.Alive(), "maintenance should have continued")
		close(run.letGo)
		synctest.Wait()
		require.NoError(t, a.Alive())
	})
}

func TestNotAliveBeforeRun(t *testing.T) {
	a, err := agent.New(agent.Config{Name: "gpu-01", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &play{run: hangs}})
	require.NoError(t, err)
	require.Error(t, a.Alive())
	select {
	case <-a.Ready():
		require.Fail(t, "ready before Run")
	default:
	}
}
