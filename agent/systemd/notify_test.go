package systemd

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
)

// manager is a systemd that notes what it is told.
type manager struct {
	mu   sync.Mutex
	told []string
}

func (m *manager) take(state string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, state)
	return true, nil
}

// since returns what was told since the last call.
func (m *manager) since() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := m.told
	m.told = nil
	return told
}

func TestNotifierTellsAServicesLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		var mu sync.Mutex
		var fault error
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			fault = err
		}
		ready := make(chan struct{})
		n := &Notifier{
			Ready: ready,
			Alive: func() error {
				mu.Lock()
				defer mu.Unlock()
				return fault
			},
			Status:     func() string { return "idle" },
			StopWithin: time.Minute,
			Logger:     slog.New(slog.DiscardHandler),
			send:       m.take,
			feed:       15 * time.Second,
		}
		ctx, end := context.WithCancel(t.Context())
		stopping, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.Run(ctx, stopping) })
		time.Sleep(time.Hour)
		require.Equal(t, []string{"STATUS=starting"}, m.since(), "nothing is ready yet")

		close(ready)
		synctest.Wait()
		require.Equal(t, []string{"READY=1\nSTATUS=idle"}, m.since())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, m.since(), 12, "fed every 5 s")

		set(errors.New("the heartbeats are stuck"))
		time.Sleep(time.Hour)
		require.Empty(t, m.since(), "a stuck service feeds no watchdog")
		set(nil)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Contains(t, m.since(), "WATCHDOG=1")

		stop()
		synctest.Wait()
		require.Equal(t, "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000\nSTATUS=stopping", m.since()[0])
		time.Sleep(15 * time.Second)
		for _, told := range m.since() {
			require.Equal(t, "WATCHDOG=1", told, "fed until the end, and the status stays")
		}
		end()
		running.Wait()
	})
}

func TestNotifierDoesNotFeedWhileAliveHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m manager
		ready, letGo := make(chan struct{}), make(chan struct{})
		close(ready)
		n := &Notifier{
			Ready:  ready,
			Alive:  func() error { <-letGo; return nil },
			Status: func() string { return strings.Repeat("busy ", 2) },
			Logger: slog.New(slog.DiscardHandler),
			send:   m.take,
			feed:   15 * time.Second,
		}
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { n.Run(ctx, ctx) })
		time.Sleep(time.Hour)
		require.NotContains(t, m.since(), "WATCHDOG=1")
		close(letGo)
		end()
		running.Wait()
	})
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := &Notifier{Logger: slog.New(slog.DiscardHandler)}
	n.Run(t.Context(), t.Context()) // returns, and asks for nothing
}

func TestNotifierTellsOfAStopThatTookNoTime(t *testing.T) {
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for range 50 { // among ready cases the choice is random
		var m manager
		ready := make(chan struct{})
		close(ready)
		ctx, end := context.WithCancel(t.Context())
		n := &Notifier{
			Ready: ready, Alive: func() error { return nil }, StopWithin: time.Minute,
			Status: func() string { end(); return "idle" }, // over before the loop begins
			Logger: slog.New(slog.DiscardHandler), send: m.take, feed: time.Hour,
		}
		n.Run(ctx, stopped)
		told := strings.Join(m.since(), "\n")
		require.Equal(t, 1, strings.Count(told, "STOPPING=1"), told)
	}
}
