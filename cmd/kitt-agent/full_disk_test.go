package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// TestTheDiskIsFull fills the disk of the agent's jobs while a benchmark prints,
// kills the agent on it, and makes room again: the benchmark goes on to its end,
// and what the log could not take is named.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	prog := buildProgram(t)
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	d := newDaemon(t, prog, server.URL, "process")
	jobs := filepath.Join(d.home, "jobs")
	require.NoError(t, os.Mkdir(jobs, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32m", "none", jobs).CombinedOutput(); err != nil {
		t.Skipf("no file system of its own for the test: mount: %v: %s", err, out)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(jobs, unix.MNT_DETACH)) })
	const lines = 400
	id, commandID, err := server.Launch("chaos", fmt.Sprintf("fake:lines.%d_width.1000_delay.10ms", lines))
	require.NoError(t, err)
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, waitForLines(ctx, server, id, 50), tail(d))
	ballast := fillDisk(t, jobs)
	output := filepath.Join(jobs, commandID, "process", "output")
	printed := func(n int) {
		require.Eventually(t, func() bool {
			info, err := os.Stat(output)
			return err == nil && info.Size() >= int64(n)*1000
		}, time.Minute, 10*time.Millisecond)
	}
	printed(150)
	d.kill()
	d.start() // on a disk that is still full
	printed(300)
	require.NoError(t, os.Remove(ballast))
	require.NoError(t, server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(d))

	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	requireLinesOrGaps(t, server.Lines(id), lines)
	require.Len(t, server.Results(), 1)
	d.stop()
	require.Empty(t, processesOf(t, prog))
}

// requireLinesOrGaps checks that a log has n lines of a benchmark in order, or says for
// each where it is missing.
func requireLinesOrGaps(t *testing.T, log []string, n int) {
	t.Helper()
	next, notes := 0, 0
	for _, line := range log {
		var missing, number int
		switch {
		case strings.Contains(line, "missing here"):
			_, err := fmt.Sscanf(line, "%d", &missing)
			require.NoError(t, err, line)
			next += missing
			notes = 1 // that the agent was restarted may be among them
		case strings.HasPrefix(line, "line "):
			_, err := fmt.Sscanf(line, "line %d", &number)
			require.NoError(t, err, line)
			require.LessOrEqual(t, number, next, "a line is missing, and nothing says so\n%s", strings.Join(log, "\n"))
			require.GreaterOrEqual(t, number, next-notes, "a line is twice or out of order\n%s", strings.Join(log, "\n"))
			next, notes = number+1, 0
		}
	}
	require.GreaterOrEqual(t, next, n, "lines are missing at the end, and nothing says so\n%s", strings.Join(log, "\n"))
	require.LessOrEqual(t, next, n+notes)
}

// TestTheBenchmarkEndsOnAFullDisk fills the disk, kills the agent, lets the benchmark end,
// starts the agent on the full disk and kills it there again, before there is room: each
// line comes or is named, and so does the job's last sentence.
func TestTheBenchmarkEndsOnAFullDisk(t *testing.T) {
	t.Parallel()
	prog := buildProgram(t)
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	d := newDaemon(t, prog, server.URL, "process")
	jobs := smallDisk(t, d)
	if jobs == "" {
		t.Skip("no file system of its own for the test")
	}
	const lines = 150
	id, commandID, err := server.Launch("chaos", fmt.Sprintf("fake:lines.%d_width.1000_delay.50ms_no-metrics", lines))
	require.NoError(t, err)
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, waitForLines(ctx, server, id, 20), tail(d))
	ballast := fillDisk(t, jobs)
	require.True(t, d.settles())
	d.kill()
	waitFor(t, ctx, "the benchmark's end", func() bool { return len(processesOf(t, prog)) == 0 })
	for range 2 {
		d.start()
		waitFor(t, ctx, "the job to wait", func() bool { return strings.Contains(d.status(), commandID) })
		row, _ := server.Test(id)
		require.Equal(t, "running", row.Status, "its log can't be written")
		require.True(t, d.settles())
		d.kill()
	}
	require.NoError(t, os.Remove(ballast))
	d.start()
	require.NoError(t, server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(d))
	waitFor(t, ctx, "the reports", func() bool { return undelivered(d) == 0 })
	row, _ := server.Test(id)
	require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
	requireLinesOrGaps(t, server.Lines(id), lines)
	require.Contains(t, server.Lines(id), "Benchmark completed")
	d.stop()
	require.Empty(t, processesOf(t, prog))
}

// fillDisk takes all room on a directory's file system with one file, whose path
// it returns.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, ".ballast"))
	require.NoError(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			size /= 2
		}
	}
	return f.Name()
}
