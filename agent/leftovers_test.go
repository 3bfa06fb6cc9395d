package agent_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// littering is an engine whose benchmarks leave something running, which can be ended
// while it isn't away.
type littering struct {
	engine

	cleaning sync.Mutex
	away     bool     // guarded by cleaning, like what follows
	cleaned  []string // IDs of jobs, in the order in which they were cleaned
}

func (l *littering) Clean(_ context.Context, job runner.Job, since time.Time, _ runner.Output) error {
	l.cleaning.Lock()
	defer l.cleaning.Unlock()
	if l.away || since.IsZero() {
		return errors.New("the engine does not answer")
	}
	l.cleaned = append(l.cleaned, job.ID)
	return nil
}

func (l *littering) setAway(away bool) {
	l.cleaning.Lock()
	defer l.cleaning.Unlock()
	l.away = away
}

func (l *littering) ids() []string {
	l.cleaning.Lock()
	defer l.cleaning.Unlock()
	return append([]string(nil), l.cleaned...)
}

// TestACleanUpThatFailsIsMadeAgain cancels a benchmark while what it left can't be
// ended: that is done soon after it can be, also by the next agent.
func TestACleanUpThatFailsIsMadeAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			srv, run := &agenttest.Server{}, &littering{engine: engine{lines: 1 << 20, pace: time.Second}, away: true}
			cfg := agent.Config{Server: srv, Runner: run, Dir: t.TempDir()}
			a, stop := start(t, cfg)
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
			synctest.Wait()
			require.NoError(t, a.Cancel(within(t, time.Minute), id, "user"))
			time.Sleep(5 * time.Minute)
			require.Empty(t, run.ids())
			if restart {
				stop()
				_, stop = start(t, cfg)
			}
			run.setAway(false)
			time.Sleep(time.Minute)
			require.Len(t, run.ids(), 1)
			time.Sleep(5 * time.Minute)
			require.Len(t, run.ids(), 1, "once is enough")
			stop()
		})
	}
}

// TestACleanUpComesBeforeTheNextBenchmark has another job wait behind the cancelled one:
// what would be ended while it runs might be its own.
func TestACleanUpComesBeforeTheNextBenchmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, &littering{engine: engine{lines: 1 << 20, pace: time.Second}, away: true}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		first := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), first, "running"))
		synctest.Wait()
		require.NoError(t, a.Cancel(within(t, time.Minute), first, "user"))
		run.setAway(false)
		second := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), second, "running"))
		synctest.Wait()
		require.Len(t, run.ids(), 1)

		run.setAway(true)
		require.NoError(t, a.Cancel(within(t, time.Minute), second, "user"))
		third := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), third, "running"))
		synctest.Wait()
		run.setAway(false)
		time.Sleep(5 * time.Minute)
		require.Len(t, run.ids(), 1, "not while a benchmark runs")
	})
}
