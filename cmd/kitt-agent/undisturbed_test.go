package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// BenchmarkUndisturbed compares the time that a benchmark which prints 100,000
// lines of 100 bytes takes under the agent, by its own clock, with the time that
// it takes when it writes to a file of its own: while the agent follows it, while
// the agent is frozen (SIGSTOP), while the server is dead, and while fifty
// readers of its log are stuck. The two are run by turns; the figure is the
// median of the paired ratios.
func BenchmarkUndisturbed(b *testing.B) {
	prog := buildProgram(b)
	const model = "fake:lines.100000_width.100"
	for _, trouble := range []string{"none", "frozen agent", "dead server", "stuck readers"} {
		b.Run(trouble, func(b *testing.B) {
			server, err := kittapitest.NewServer(kittapitest.Config{})
			require.NoError(b, err)
			defer server.Close()
			server.AddAgent("chaos")
			d := newDaemon(b, prog, server.URL, "process")
			d.start()
			ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
			defer cancel()
			require.NoError(b, server.WaitForAgent(ctx, "chaos"), tail(d))
			require.Eventually(b, func() bool { return undelivered(d) == 0 }, time.Minute, 10*time.Millisecond)
			if trouble == "dead server" {
				server.SetFault(nil)
				require.NoError(b, server.Close())
			}
			var ratios []float64
			for i := 0; b.Loop(); i++ {
				alone := aloneSeconds(b, prog, model)
				id := fmt.Sprintf("job%d", i)
				d.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":%q}}`, id, model))
				switch trouble {
				case "frozen agent":
					waitForFile(b, ctx, filepath.Join(d.home, "jobs", id, "process", "started.json"))
					require.NoError(b, d.cmd.Process.Signal(syscall.SIGSTOP))
				case "stuck readers":
					for range 50 {
						conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
						require.NoError(b, err)
						defer conn.Close()
						fmt.Fprintf(conn, "GET /api/logs/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer chaos-token-0123456789\r\n\r\n", id)
					}
				}
				metrics := filepath.Join(d.home, "jobs", id, "results", "metrics.json")
				waitForFile(b, ctx, metrics)
				ratios = append(ratios, secondsIn(b, metrics)/alone)
				if trouble == "frozen agent" {
					require.NoError(b, d.cmd.Process.Signal(syscall.SIGCONT))
				}
				ended := filepath.Join(d.home, "jobs", id, "result.json")
				waitForFile(b, ctx, ended)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "x-alone")
			b.ReportMetric(ratios[0], "x-least")
			b.ReportMetric(ratios[len(ratios)-1], "x-most")
		})
	}
}

// aloneSeconds runs the benchmark without an agent, into a file of its own.
func aloneSeconds(b *testing.B, prog program, model string) float64 {
	b.Helper()
	dir := b.TempDir()
	out, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(b, err)
	defer out.Close()
	cmd := exec.Command(filepath.Join(prog.bin, "kitt"), "run", "-m", model, "-e", "vllm", "-s", "quick", "-o", dir)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(b, cmd.Run())
	return secondsIn(b, filepath.Join(dir, "metrics.json"))
}

// secondsIn returns the time that a benchmark took by its own clock.
func secondsIn(b *testing.B, metrics string) float64 {
	b.Helper()
	text, err := os.ReadFile(metrics)
	require.NoError(b, err)
	var m struct {
		Seconds float64 `json:"total_time_seconds"`
	}
	require.NoError(b, json.Unmarshal(text, &m))
	return m.Seconds
}

func waitForFile(b *testing.B, ctx context.Context, path string) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.NoError(b, ctx.Err(), path)
		}
	}
}
