package agent_test

import (
	"context"
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
)

// slowGPUs take their time for each reading.
type slowGPUs struct {
	*hwdetecttest.Fake
	takes time.Duration
	reads atomic.Int64
}

func (s *slowGPUs) Telemetry(ctx context.Context) (hwdetect.Telemetry, error) {
	s.reads.Add(1)
	time.Sleep(s.takes)
	return s.Fake.Telemetry(ctx)
}

// The last hour of the GPUs is there, one reading every 30 s while nobody looks and one
// a second while somebody does.
func TestTheLastHourOfTheGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gpus := &slowGPUs{Fake: hwdetecttest.NewFake(profile(t, "h100-8"))}
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: gpus})
		defer stop()
		<-time.After(100*time.Minute + time.Second)
		require.Len(t, a.Machine().GPUs, 8)
		require.Len(t, a.Engines(), 3)
		history := a.GPUHistory(time.Time{})
		require.InDelta(t, 120, len(history), 2)
		require.WithinDuration(t, time.Now(), history[len(history)-1].Time, 31*time.Second)
		require.Less(t, time.Since(history[0].Time), time.Hour+time.Minute)
		require.Len(t, history[0].GPUs, 8)
		require.InDelta(t, 84, history[0].GPUs[7].PowerW, 1)
		require.True(t, math.IsNaN(float64(history[0].GPUs[7].SMClockMHz)), "what cannot be read is not 0")

		before := gpus.reads.Load()
		for range 600 { // ten watchers for a minute
			for range 10 {
				require.Len(t, a.ReadGPUs(t.Context()).GPUs, 8)
			}
			<-time.After(100 * time.Millisecond)
		}
		require.InDelta(t, 62, gpus.reads.Load()-before, 3)
		require.InDelta(t, 60, len(a.GPUHistory(time.Now().Add(-time.Minute))), 3)
	})
}

// GPUs that answer slowly are not read more often because somebody looks.
func TestWatchersTakeLittleOfSlowGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gpus := &slowGPUs{Fake: hwdetecttest.NewFake(profile(t, "h100-8")), takes: 600 * time.Millisecond}
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: gpus})
		defer stop()
		<-time.After(time.Minute)
		before := gpus.reads.Load()
		for range 600 {
			a.ReadGPUs(t.Context())
			<-time.After(time.Second)
		}
		require.InDelta(t, 10+20, gpus.reads.Load()-before, 3, "ten for the watcher, twenty for the heartbeats")
	})
}

// Config.Page has the paths that the API doesn't have, behind the same guard.
func TestPageBesideTheAPI(t *testing.T) {
	t.Parallel()
	a := newIdle(t, agent.Config{Token: "right", Page: func(a *agent.Agent) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if a.Admits(r) && a.CallerToken() == "right" {
				w.WriteHeader(http.StatusAccepted)
				return
			}
			w.WriteHeader(http.StatusTeapot)
		})
	}})
	bearer := map[string]string{"Authorization": "Bearer right"}
	require.Equal(t, http.StatusTeapot, send(t, a, "GET /", "", nil).Code)
	require.Equal(t, http.StatusAccepted, send(t, a, "GET /jobs/x", "", bearer).Code)
	require.Equal(t, http.StatusForbidden, send(t, a, "GET /", "", map[string]string{"Sec-Fetch-Site": "cross-site"}).Code)
	require.Equal(t, http.StatusForbidden, send(t, a, "GET /", "", map[string]string{"Origin": "http://evil.example"}).Code)
	require.Equal(t, http.StatusForbidden, send(t, a, "GET /", "", map[string]string{"Host": "evil.example", "Cookie": "a=b"}).Code)
	require.Equal(t, http.StatusOK, send(t, a, "GET /api/status", "", nil).Code)
	require.Equal(t, http.StatusNotFound, send(t, a, "GET /api/other", "", bearer).Code)
	require.Equal(t, http.StatusMethodNotAllowed, send(t, a, "GET /api/commands", "", bearer).Code)
	require.Equal(t, http.StatusServiceUnavailable, send(t, a, "GET /healthz", "", nil).Code)

	elsewhere := newIdle(t, agent.Config{Page: func(a *agent.Agent) http.Handler {
		return a.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !a.Admits(r) {
				w.WriteHeader(http.StatusTeapot)
			}
		}))
	}})
	require.Equal(t, http.StatusOK, send(t, elsewhere, "GET /", "", nil).Code)
	require.Equal(t, http.StatusNotFound, send(t, newIdle(t, agent.Config{}), "GET /", "", nil).Code)
}

// What is recorded during a benchmark is part of the last hour, so nobody who watches has
// the GPUs read once more.
func TestARecordedBenchmarkIsInTheLastHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gpus := &slowGPUs{Fake: hwdetecttest.NewFake(profile(t, "h100-8"))}
		a, stop := start(t, agent.Config{
			Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: gpus, Integrity: agent.Integrity{Source: newHotMachine()},
		})
		defer stop()
		<-a.Ready()
		_, err := a.Submit(agent.Benchmark{Model: "m"})
		require.NoError(t, err)
		<-time.After(5 * time.Minute)
		before := gpus.reads.Load()
		for range 60 {
			a.ReadGPUs(t.Context())
			<-time.After(time.Second)
		}
		require.LessOrEqual(t, gpus.reads.Load()-before, int64(3), "two for heartbeats")
		require.InDelta(t, 60, len(a.GPUHistory(time.Now().Add(-time.Minute))), 4)
		require.InDelta(t, 360, len(a.GPUHistory(time.Time{})), 15)
	})
}
