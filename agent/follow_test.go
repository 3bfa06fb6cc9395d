package agent_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// readAll returns all lines of a job's log.
func readAll(t *testing.T, ctx context.Context, a *agent.Agent, id string) (lines []string) {
	t.Helper()
	log, err := a.OpenLog(ctx, id)
	require.NoError(t, err)
	defer log.Close()
	for r, err := range log.Records(ctx) {
		require.NoError(t, err)
		lines = append(lines, r.Text)
	}
	return lines
}

// The last lines of a log are there while the benchmark runs and after it.
func TestLogTail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: prints(1000, time.Second)}})
		_, err := a.LogTail(t.Context(), "none", 5)
		require.Error(t, err)
		<-a.Ready()
		id, err := a.Submit(agent.Benchmark{Model: "m"})
		require.NoError(t, err)
		time.Sleep(500 * time.Second)
		lines, err := a.LogTail(t.Context(), id, 5)
		require.NoError(t, err)
		require.Len(t, lines, 5)
		require.Subset(t, numbered(1000), lines)
		_, err = a.Wait(t.Context(), id)
		require.NoError(t, err)
		lines, err = a.LogTail(t.Context(), id, 3)
		require.NoError(t, err)
		whole := readAll(t, t.Context(), a, id)
		require.Equal(t, whole[len(whole)-3:], lines)
		lines, err = a.LogTail(t.Context(), id, 1<<20)
		require.NoError(t, err)
		require.Equal(t, whole, lines)
		stop()
		_, err = a.LogTail(t.Context(), id, 3)
		require.ErrorIs(t, err, agent.ErrNotAccepting)
	})
}

func TestAProgramFollowsAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(100, time.Second)}})
		events := a.Events(t.Context())
		synctest.Wait()
		id, err := a.Submit(agent.Benchmark{Model: "m"})
		require.NoError(t, err)
		_, err = a.Result(id)
		require.ErrorIs(t, err, agent.ErrNotEnded)
		live := make(chan []string)
		go func() { live <- readAll(t, t.Context(), a, id) }() // while it runs
		status, err := a.Wait(within(t, time.Second), id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, agent.StateRunning, status.State)

		status, err = a.Wait(within(t, time.Hour), id)
		require.NoError(t, err)
		require.Equal(t, agent.StateCompleted, status.State)
		lines := <-live
		require.Equal(t, numbered(100), benchmarkLines(lines))
		require.Equal(t, lines, readAll(t, t.Context(), a, id), "and once more afterwards")
		result, err := a.Result(id)
		require.NoError(t, err)
		require.Equal(t, reporter.Completed, result.Status)
		require.Equal(t, "m", result.Data["model"])

		var kinds []agent.EventKind
		for e := range events {
			if e.JobID == id {
				kinds = append(kinds, e.Kind)
			}
			if e.Kind == agent.EventDelivered {
				break
			}
		}
		require.Equal(t, []agent.EventKind{
			agent.EventAccepted, agent.EventState, agent.EventState, agent.EventState, agent.EventEnded, agent.EventDelivered,
		}, kinds, "preparing, running, finishing")
		stop()
		status, err = a.Wait(t.Context(), id)
		require.NoError(t, err, "an end is known after Run, too")
		require.Equal(t, agent.StateCompleted, status.State)
	})
}

func TestFollowingAJobThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}})
		synctest.Wait()
		for _, id := range []string{"", "x", "../x"} {
			_, err := a.Job(id)
			require.ErrorIs(t, err, agent.ErrNoJob)
			_, err = a.Wait(t.Context(), id)
			require.ErrorIs(t, err, agent.ErrNoJob)
			_, err = a.Result(id)
			require.ErrorIs(t, err, agent.ErrNoJob)
			_, err = a.OpenLog(t.Context(), id)
			require.ErrorIs(t, err, agent.ErrNoJob)
		}
		_, err := a.Submit(agent.Benchmark{})
		var bad *agent.CommandError
		require.ErrorAs(t, err, &bad)
		stop()
		_, err = a.Result("x")
		require.ErrorIs(t, err, agent.ErrNotAccepting)
	})
}

// Readers that follow a job, and do nothing about the end of Run, don't hold it up.
func TestRunEndsWithReadersThatFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &engine{lines: 1000, pace: time.Second}})
		synctest.Wait()
		id, err := a.Submit(agent.Benchmark{Model: "m"})
		require.NoError(t, err)
		<-time.After(10 * time.Second)
		waits := make(chan error)
		go func() {
			_, err := a.Wait(t.Context(), id)
			waits <- err
		}()
		idle, err := a.OpenLog(t.Context(), id)
		require.NoError(t, err)
		busy, err := a.OpenLog(t.Context(), id)
		require.NoError(t, err)
		reads := make(chan error)
		go func() {
			for {
				if _, err := busy.Next(t.Context()); err != nil {
					reads <- err
					return
				}
			}
		}()
		<-time.After(10 * time.Second)
		stop()
		require.ErrorIs(t, <-waits, agent.ErrStopping)
		require.ErrorIs(t, <-reads, agent.ErrStopping)
		_, err = idle.Next(t.Context())
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.NoError(t, idle.Close())
		require.NoError(t, busy.Close())
	})
}

// A subscriber that reads nothing costs others and the agent nothing, and learns how
// much it missed.
func TestEventsNeverBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
			return runner.Result{}, nil
		}}})
		defer stop()
		slow := a.Events(t.Context())
		ended := 0
		for range 400 {
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
			ended++
		}
		require.Equal(t, 400, ended)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		_ = a.Events(ctx) // whose iteration never begins
		var got []agent.Event
		for e := range slow {
			got = append(got, e)
			if e.Kind == agent.EventLost {
				break
			}
			if len(got) == 1024 { // there is room again
				srv.Launch("last")
			}
		}
		require.Len(t, got, 1025)
		require.Greater(t, got[1024].Lost, 1000)
	})
}

func TestEventsTellOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		var away atomic.Bool
		srv.LoseAnswer = func(string) error {
			<-time.After(time.Second) // the test follows the events before the first answer
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}})
		defer stop()
		ctx, cancel := context.WithCancel(t.Context())
		events := a.Events(ctx)
		<-time.After(10 * time.Minute)
		away.Store(true)
		<-time.After(10 * time.Minute)
		away.Store(false)
		<-time.After(10 * time.Minute)
		time.AfterFunc(time.Second, cancel)
		kinds := []agent.EventKind{}
		for e := range events {
			kinds = append(kinds, e.Kind)
		}
		require.True(t, slices.Equal(kinds, []agent.EventKind{
			agent.EventServerReachable, agent.EventServerUnreachable, agent.EventServerReachable,
		}), "%v", kinds)
	})
}
