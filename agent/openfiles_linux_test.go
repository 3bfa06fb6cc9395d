package agent_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
)

// TestWaitingJobsKeepNoFilesOpen has many jobs wait: they keep no files open, and status
// lists the first of them.
func TestWaitingJobsKeepNoFilesOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: &play{run: hangs}, Dir: dir})
	defer stop()
	<-a.Ready()
	const jobs = 1200
	for i := range jobs {
		_, err := a.Submit(agent.Benchmark{Model: fmt.Sprint("m", i)})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return a.Status().Waiting == jobs-1 }, time.Minute, 50*time.Millisecond)
	require.Len(t, a.Status().Jobs, 1001)
	below := 0
	links, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, link := range links {
		if target, err := os.Readlink("/proc/self/fd/" + link.Name()); err == nil && len(target) > len(dir) && target[:len(dir)] == dir {
			below++
		}
	}
	require.Less(t, below, 20)
}
