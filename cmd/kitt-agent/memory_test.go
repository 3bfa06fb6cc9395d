package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkMemory runs ten jobs of 100,000 lines of 100 bytes in one agent, and
// reports what the agent has resident: before them, at its peak, and after them.
func BenchmarkMemory(b *testing.B) {
	ctx, d := startLocalDaemon(b, time.Hour)
	for i := 0; b.Loop(); i++ {
		b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmRSS"), "MiB-idle")
		for k := range 10 {
			id := fmt.Sprintf("job%d-%d", i, k)
			d.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":"fake:lines.100000_width.100_no-metrics"}}`, id))
			result := filepath.Join(d.home, "jobs", id, "result.json")
			waitFor(b, ctx, result, func() bool { return exists(result) })
			waitFor(b, ctx, "reports", func() bool { return undelivered(d) == 0 })
		}
		b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmHWM"), "MiB-peak")
		time.Sleep(2 * time.Second) // for the log to be compressed
		b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmRSS"), "MiB-after")
	}
}

// residentMiB returns a value of /proc/PID/status, in MiB.
func residentMiB(b *testing.B, pid int, key string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			kib, err := strconv.Atoi(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte("kB")))))
			require.NoError(b, err)
			return float64(kib) / 1024
		}
	}
	b.Fatalf("no %s", key)
	return 0
}
