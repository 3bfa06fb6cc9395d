package agent_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

func profile(t *testing.T, name string) *hwdetect.Machine {
	t.Helper()
	m, ok := hwdetect.Profile(name)
	require.True(t, ok)
	return m
}

func TestAGPUThatFallsOffTheBusMakesTheAgentSick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		gpus := hwdetecttest.NewFake(profile(t, "h100-8"))
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, Detector: gpus})
		defer stop()
		last := func() heartbeat.Beat {
			beats := srv.Beats()
			return beats[len(beats)-1]
		}
		<-time.After(2 * time.Minute)
		require.Equal(t, heartbeat.StatusIdle, last().Status)
		require.Len(t, srv.Registrations()[0].Machine.GPUs, 8)

		gpus.SetFault("GPU 5 fell off the bus")
		<-time.After(2 * time.Minute)
		require.Equal(t, heartbeat.StatusError, last().Status)
		require.Equal(t, "GPU 5 fell off the bus", last().Task)

		gpus.SetFault("")
		id := srv.Launch("m")
		<-time.After(2 * time.Minute)
		gpus.SetFault("GPU 3 fell off the bus")
		<-time.After(3 * time.Minute)
		require.Equal(t, heartbeat.StatusError, last().Status)
		require.True(t, last().Busy, "the benchmark runs on, and is not disturbed more than before")
		require.Equal(t, id, last().Task)
		require.Contains(t, a.Status().Warnings, "GPU trouble: GPU 3 fell off the bus")

		gpus.SetFault("")
		<-time.After(2 * time.Minute)
		require.Equal(t, heartbeat.StatusRunning, last().Status, "and back when it returns")
	})
}

func TestTheFirstHeartbeatHasFigures(t *testing.T) {
	t.Parallel()
	const used = 3 << 30
	reading := hwdetect.Telemetry{GPUs: []hwdetect.GPUTelemetry{
		{Index: 0, UtilizationPct: new(10.0), MemoryUsedBytes: new(int64(1 << 30))},
		{Index: 1, UtilizationPct: new(30.0), MemoryUsedBytes: new(int64(2 << 30))},
	}}
	for name, usage := range map[string]storage.Usage{
		"some space": {FreeBytes: 5 << 30, UsedBytes: 1 << 30},
		"full disk":  {FreeBytes: 0, UsedBytes: 6 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{}
				gpus := hwdetecttest.NewFake(profile(t, "h100-8"))
				gpus.SetTelemetry(reading, nil)
				disk := slowly{Fake: &storagetest.Fake{State: usage}}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, Detector: gpus, Storage: disk})
				defer stop()
				<-time.After(5 * time.Second)
				require.Len(t, srv.Beats(), 1)
				first := srv.Beats()[0]
				require.Equal(t, &usage.FreeBytes, first.StorageFree)
				require.Equal(t, new(20.0), first.GPUUtilPct, "the mean")
				require.Equal(t, new(int64(used)), first.GPUMemoryBytes, "the sum")
			})
		})
	}
}

// slowly is a storage that takes its time to say how full it is.
type slowly struct{ *storagetest.Fake }

func (s slowly) Usage(ctx context.Context) (storage.Usage, error) {
	time.Sleep(200 * time.Millisecond) // of the bubble's time
	return s.Fake.Usage(ctx)
}

func TestADriverThatComesLaterIsFoundWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		machine := hwdetecttest.NewFake(profile(t, "cpu-only"))
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, Detector: machine})
		defer stop()
		<-time.After(time.Hour)
		require.Len(t, srv.Registrations(), 1, "nothing has changed, so nothing is said")
		machine.SetMachine(profile(t, "rtx4090"), nil)
		<-time.After(15 * time.Minute)
		regs := srv.Registrations()
		require.Len(t, regs, 2)
		require.Len(t, regs[1].Machine.GPUs, 1)

		// While a benchmark runs nobody looks: it would disturb.
		srv.Launch("m")
		<-time.After(2 * time.Minute)
		before, _ := machine.Calls()
		<-time.After(2 * time.Hour)
		after, _ := machine.Calls()
		require.Equal(t, before, after)
	})
}

// moody is a detector that gives the next of its answers at each look.
type moody struct {
	mu      sync.Mutex
	answers []func() (*hwdetect.Machine, error)
}

func (m *moody) Detect(context.Context) (*hwdetect.Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.answers[0]
	if len(m.answers) > 1 {
		m.answers = m.answers[1:]
	}
	return next()
}

func TestADetectorThatFailsCostsNothingThatWasKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		fails := func() (*hwdetect.Machine, error) { return nil, errors.New("no /proc") }
		gives := func() (*hwdetect.Machine, error) { return nil, nil }
		knows := func() (*hwdetect.Machine, error) { return profile(t, "rtx4090"), nil }
		var log strings.Builder
		_, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: hangs},
			Detector: &moody{answers: []func() (*hwdetect.Machine, error){fails, knows, gives, fails, fails}},
			Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		})
		<-time.After(2 * time.Hour)
		stop()
		regs := srv.Registrations()
		require.Len(t, regs, 2)
		require.NotEmpty(t, regs[0].Machine.Hostname, "known without a detector")
		require.Len(t, regs[1].Machine.GPUs, 1)
		require.Equal(t, 1, strings.Count(log.String(), "no /proc"))
		require.Equal(t, 1, strings.Count(log.String(), "neither a machine nor an error"))
		require.Equal(t, 1, strings.Count(log.String(), "machine read again"))
	})
}
