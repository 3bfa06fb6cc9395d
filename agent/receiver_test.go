package agent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// TestManyCommandsHoldNothingUp takes in more commands at once than may wait, each of
// which takes a while to be written.
func TestManyCommandsHoldNothingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var accepted []string
		var later []time.Duration
		r := &receiver{
			log: slog.New(slog.DiscardHandler), notices: &notices.Board{}, queue: execution.NewQueue(execution.QueueConfig{Slots: 1}),
			accept: func(_ context.Context, cmd heartbeat.Command, _ jobs.Source) {
				<-time.After(11 * time.Millisecond)
				accepted = append(accepted, cmd.ID)
			},
			later: func(d time.Duration) { later = append(later, d) },
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		begun := time.Now()
		for i := range 25_000 {
			r.receive(ctx, heartbeat.Command{ID: fmt.Sprint(i)}, jobs.FromServer)
		}
		require.Zero(t, time.Since(begun))
		require.NotEmpty(t, later)
		require.Equal(t, lookUpFull, later[0])
		<-time.After(10 * time.Minute)
		synctest.Wait()
		require.InDelta(t, maxWaiting, len(accepted), 100)
		for i, id := range accepted {
			require.Equal(t, fmt.Sprint(i), id)
		}
		r.receive(ctx, heartbeat.Command{ID: "next"}, jobs.FromServer)
		<-time.After(time.Second)
		synctest.Wait()
		require.Equal(t, "next", accepted[len(accepted)-1])

		for range 100 {
			r.receive(ctx, heartbeat.Command{ID: "left"}, jobs.FromServer)
		}
		cancel()
		<-done
		require.Less(t, len(accepted), maxWaiting+200)
	})
}
