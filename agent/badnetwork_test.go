package agent_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// TestABadNetworkReplacesNoLine has two in five requests fail by chance. However often
// one report fails then, it is not refused: each line arrives, and no note in its place.
func TestABadNetworkReplacesNoLine(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			draw := rand.New(rand.NewPCG(seed, 1))
			fail := func(rate float64) error {
				mu.Lock()
				defer mu.Unlock()
				if draw.Float64() < rate {
					return agenttest.ErrDown
				}
				return nil
			}
			srv := &agenttest.Server{
				Fault:      func(string) error { return fail(0.3) },
				LoseAnswer: func(string) error { return fail(0.1) },
			}
			run := func(ctx context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
				for _, line := range lines {
					<-time.After(2 * time.Second)
					fmt.Fprintln(runner.OutputWriter(out), line)
				}
				return runner.Result{}, ctx.Err()
			}
			_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: run}})
			defer stop()
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, 24*time.Hour), id, "completed"))
			arrived := slices.DeleteFunc(srv.Lines(id), func(line string) bool {
				return !strings.HasPrefix(line, "line ") && !strings.HasPrefix(line, "(A line of ")
			})
			require.Equal(t, lines, arrived, "seed %d", seed)
		})
	}
}
