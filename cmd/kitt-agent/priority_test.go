package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// Every thread of the agent yields to a local benchmark, which has the priority that
// the agent was started with.
func TestTheAgentYieldsToItsBenchmark(t *testing.T) {
	t.Parallel()
	_, d := startLocalDaemon(t, time.Minute)
	d.command(`{"type":"run_test","command_id":"job","payload":{"model_path":"fake:lines.100000_delay.1ms_no-metrics"}}`)
	files := filepath.Join(d.home, "jobs", "job", "process")
	var claim supervisor.Claim
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(files, supervisor.ClaimFile))
		return err == nil && json.Unmarshal(text, &claim) == nil && claim.Child.PID != 0
	}, time.Minute, 10*time.Millisecond, tail(d))

	usual := nice(t, os.Getpid())
	require.Equal(t, usual, nice(t, claim.Child.PID), "the benchmark's")
	require.Equal(t, usual, nice(t, claim.Supervisor.PID), "its supervisor's")
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "task"))
	require.NoError(t, err)
	var normal int
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(t, err)
		if nice(t, id) == usual {
			normal++
		}
	}
	require.Equal(t, 1, normal, "only the thread that starts benchmarks")
}

// nice returns the nice value of a thread.
func nice(t *testing.T, thread int) int {
	t.Helper()
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	require.NoError(t, err)
	return 20 - raw
}
