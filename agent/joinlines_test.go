package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// flood prints n lines of the given length at once, each with its number in
// front.
func flood(n, length int) func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
	return func(_ context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
		var b bytes.Buffer
		w := runner.OutputWriter(out)
		for i := range n {
			fmt.Fprintf(&b, "line %d %s\n", i, strings.Repeat("x", length))
			if b.Len() > 64<<10 || i == n-1 {
				if _, err := w.Write(b.Bytes()); err != nil {
					return runner.Result{}, err
				}
				b.Reset()
			}
		}
		return runner.Result{}, nil
	}
}

// slowLog is a fault that makes each request with lines take that long.
func slowLog(d time.Duration) func(kind string) error {
	return func(kind string) error {
		if kind == "log" {
			<-time.After(d)
		}
		return nil
	}
}

// TestAFullRequestDoesNotWait floods the log of a server that answers soon: requests
// are full, and none that is full waits for more lines.
func TestAFullRequestDoesNotWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ lines, length int }{{60_000, 10}, {8_000, 1 << 10}, {500, 16 << 10}, {50, 60 << 10}} {
		t.Run(fmt.Sprint(tt.length), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const answer = 20 * time.Millisecond
				srv := &agenttest.Server{Fault: slowLog(answer)}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: flood(tt.lines, tt.length)}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
				begun := time.Now()
				require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
				require.Less(t, time.Since(begun), time.Duration(len(srv.Rows(id)))*answer+500*time.Millisecond)

				n := 0
				for _, line := range srv.Lines(id) {
					if strings.HasPrefix(line, "line ") {
						require.True(t, strings.HasPrefix(line, fmt.Sprintf("line %d x", n)))
						n++
					}
				}
				require.Equal(t, tt.lines, n)
				most := tt.lines * (tt.length + 10) / (100 << 10)
				// The first are sent one by one, until more than a few wait.
				require.LessOrEqual(t, len(srv.Rows(id)), max(most, tt.lines/1900)+40)
				for _, row := range srv.Rows(id) {
					require.LessOrEqual(t, len(row), 128<<10)
				}
			})
		})
	}
}

// TestLinesThatTrickleInAFloodArePaced prints a line a millisecond to a server
// that is slower: requests keep their distance, so they are few.
func TestLinesThatTrickleInAFloodArePaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{Fault: func(string) error {
			<-time.After(10 * time.Millisecond)
			return nil
		}}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(5_000, time.Millisecond)}})
		defer stop()
		id := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		require.Equal(t, numbered(5_000), benchmarkLines(srv.Lines(id)))
		require.Less(t, len(srv.Rows(id)), 200)
	})
}

// TestLinesThatSingleRequestsCatchUpWithAreNotJoined holds lines up: by a server that
// once answers late, by one that is away for a minute, and by one that is slow. All of
// them arrive alone, since that takes no more than a few seconds.
func TestLinesThatSingleRequestsCatchUpWithAreNotJoined(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lines int
		every time.Duration
		fault func() func(kind string) error
	}{
		"one late answer": {100, 100 * time.Millisecond, func() func(string) error {
			n := 0
			return func(kind string) error {
				if kind != "log" {
					return nil
				}
				if n++; n == 20 {
					<-time.After(3 * time.Second)
				}
				<-time.After(5 * time.Millisecond)
				return nil
			}
		}},
		"away for a minute": {200, time.Second, func() func(string) error {
			from := time.Now().Add(time.Minute)
			return func(kind string) error {
				if since := time.Since(from); since > 0 && since < time.Minute {
					return agenttest.ErrDown
				}
				return slowLog(5 * time.Millisecond)(kind)
			}
		}},
		"a burst":     {300, 0, func() func(string) error { return slowLog(5 * time.Millisecond) }},
		"a slow link": {20, 0, func() func(string) error { return slowLog(100 * time.Millisecond) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := &agenttest.Server{Fault: tt.fault()}
				_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(tt.lines, tt.every)}})
				defer stop()
				id := srv.Launch("m")
				require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), id))
				require.Equal(t, numbered(tt.lines), benchmarkLines(srv.Rows(id)))
			})
		})
	}
}
