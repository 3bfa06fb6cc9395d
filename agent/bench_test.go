package agent_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner"
)

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runAgent runs an agent for the length of the benchmark.
func runAgent(b *testing.B, cfg agent.Config) *agent.Agent {
	b.Helper()
	a, err := agent.New(cfg)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-done)
	})
	return a
}

// BenchmarkJob runs a job that prints 100,000 lines of 100 bytes as fast as it
// can, to a server that answers at once: lines a second from print to server,
// requests and processor time for 10,000 lines, memory at the end.
func BenchmarkJob(b *testing.B) {
	const lines = 100_000
	text := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 640))
	srv := &agenttest.Server{}
	var requests atomic.Int64
	srv.Fault = func(kind string) error {
		if kind == "log" {
			requests.Add(1)
		}
		return nil
	}
	var started time.Time
	var took time.Duration
	run := &play{run: func(_ context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
		started = time.Now()
		stdout := runner.OutputWriter(out)
		for left := lines * 100; left > 0; {
			n, err := stdout.Write(text[:min(len(text), left)])
			if err != nil {
				return runner.Result{}, err
			}
			left -= n
		}
		return runner.Result{}, nil
	}}
	runAgent(b, agent.Config{Name: "bench", Dir: b.TempDir(), Server: srv, Runner: run})
	before := cpu(b)
	for b.Loop() {
		id := srv.Launch("m")
		require.NoError(b, srv.Wait(b.Context(), id, "completed"))
		took += time.Since(started) // not the wait for the heartbeat that brought it
	}
	used := cpu(b) - before
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	per10k := float64(b.N) * lines / 10_000
	b.ReportMetric(lines*float64(b.N)/took.Seconds(), "lines/s")
	b.ReportMetric(float64(requests.Load())/per10k, "requests/10k-lines")
	b.ReportMetric(used.Seconds()/per10k, "cpu-s/10k-lines")
	b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-system")
}

// BenchmarkLongLines runs a job that prints 20 MiB in lines of some length as fast
// as it can, to a server that answers at once: the time from print to server, and
// the memory at the end.
func BenchmarkLongLines(b *testing.B) {
	const total = 20 << 20
	for _, length := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			srv := &agenttest.Server{}
			text := []byte(strings.Repeat("x", length-1) + "\n")
			var started time.Time
			var took time.Duration
			run := &play{run: func(_ context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
				started = time.Now()
				w := runner.OutputWriter(out)
				for left := total; left > 0; left -= length {
					if _, err := w.Write(text); err != nil {
						return runner.Result{}, err
					}
				}
				return runner.Result{}, nil
			}}
			runAgent(b, agent.Config{Name: "bench", Dir: b.TempDir(), Server: srv, Runner: run})
			before := cpu(b)
			for b.Loop() {
				id := srv.Launch("m")
				require.NoError(b, srv.Wait(b.Context(), id, "completed"))
				took += time.Since(started) // not the wait for the heartbeat that brought it
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(total*float64(b.N)/(1<<20)/took.Seconds(), "MiB/s")
			b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-system")
		})
	}
}

// BenchmarkNextJob measures the time from a job's end to the start of the next
// one that waits.
func BenchmarkNextJob(b *testing.B) {
	srv := &agenttest.Server{}
	var ended time.Time
	var gaps time.Duration
	var n int
	run := &play{run: func(context.Context, runner.Job, runner.Output) (runner.Result, error) {
		if !ended.IsZero() {
			gaps += time.Since(ended)
			n++
		}
		ended = time.Now()
		return runner.Result{}, nil
	}}
	runAgent(b, agent.Config{Name: "bench", Dir: b.TempDir(), Server: srv, Runner: run})
	for b.Loop() {
		ids := make([]string, 10)
		for i := range ids {
			ids[i] = srv.Launch(fmt.Sprint(i))
		}
		for _, id := range ids {
			require.NoError(b, srv.Wait(b.Context(), id, "completed"))
		}
		ended = time.Time{}
	}
	b.ReportMetric(float64(gaps.Microseconds())/1000/float64(max(n, 1)), "ms-to-next-job")
}

// stamped is a client of a server that notes how long each line took from its
// print to the server's word that it has it.
type stamped struct {
	*kittapi.Client
	mu    sync.Mutex
	waits []time.Duration
}

func (s *stamped) ReportLog(ctx context.Context, testID, text string) error {
	if err := s.Client.ReportLog(ctx, testID, text); err != nil {
		return err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.SplitSeq(text, "\n") {
		var printed int64
		if _, err := fmt.Sscanf(line, "printed at %d", &printed); err == nil {
			s.waits = append(s.waits, now.Sub(time.Unix(0, printed)))
		}
	}
	return nil
}

// BenchmarkPrintToServer measures the time from a line's print to the server's
// word that it has it, over real HTTP: at two lines a second, and in a flood of
// 20,000 lines.
func BenchmarkPrintToServer(b *testing.B) {
	for _, rate := range []struct {
		name  string
		lines int
		pause time.Duration
	}{
		{"trickle", 10, 500 * time.Millisecond},
		{"flood", 20_000, 0},
	} {
		b.Run(rate.name, func(b *testing.B) {
			server, err := kittapitest.NewServer(kittapitest.Config{})
			require.NoError(b, err)
			defer server.Close()
			client, err := kittapi.New(kittapi.Config{URL: server.URL})
			require.NoError(b, err)
			s := &stamped{Client: client}
			run := &play{run: func(_ context.Context, _ runner.Job, out runner.Output) (runner.Result, error) {
				stdout := runner.OutputWriter(out)
				for range rate.lines {
					fmt.Fprintf(stdout, "printed at %d\n", time.Now().UnixNano())
					<-time.After(rate.pause)
				}
				return runner.Result{}, nil
			}}
			a := runAgent(b, agent.Config{Name: "bench", Dir: b.TempDir(), Server: s, Runner: run})
			require.NoError(b, server.WaitForAgent(b.Context(), "bench"))
			for b.Loop() {
				id, commandID, err := server.Launch("bench", "m")
				require.NoError(b, err)
				_, err = a.Submit(agent.Benchmark{ID: commandID, TestID: id, Model: "m"}) // as a heartbeat would, without the wait for it
				require.NoError(b, err)
				require.NoError(b, server.WaitForEnd(b.Context(), id))
			}
			require.Len(b, s.waits, b.N*rate.lines)
			slices.Sort(s.waits)
			b.ReportMetric(float64(s.waits[len(s.waits)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(s.waits[len(s.waits)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(server.Requests()["POST /api/v1/quicktest/{id}/logs"])/float64(b.N), "requests")
		})
	}
}
