package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// crowd is an agent with many jobs on disk.
type crowd struct {
	*daemon
	server *kittapitest.Server
	ctx    context.Context // the test's, for its calls
}

// newCrowd makes an agent whose first job runs until it is killed, with n more that wait;
// or whose n jobs have ended, if ended is set. All but one of them are copies.
func newCrowd(t testing.TB, n int, ended bool) *crowd {
	t.Helper()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	server.AddAgent("chaos")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	c := &crowd{daemon: newDaemon(t, buildProgram(t), server.URL, "process"), server: server, ctx: ctx}
	c.start()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(c.daemon))
	model, file := "fake:hang_lines.1", "job.json"
	if ended {
		model, file = "fake:lines.10", "result.json"
	} else {
		c.submit("0000000000000000", model)
	}
	const pattern = "ffffffffffffffff"
	c.submit(pattern, model)
	waitFor(t, ctx, file, func() bool { return exists(filepath.Join(c.home, "jobs", pattern, file)) })
	require.True(t, c.settles(), tail(c.daemon))
	if ended {
		waitFor(t, ctx, "reports", func() bool { return undelivered(c.daemon) == 0 })
	}
	c.stop()
	for i := range n {
		copyJob(t, filepath.Join(c.home, "jobs"), pattern, fmt.Sprintf("%016x", i+1))
	}
	return c
}

func (c *crowd) submit(id, model string) {
	c.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":%q}}`, id, model))
}

// copyJob copies a job's directory under another id.
func copyJob(t testing.TB, jobs, from, to string) {
	t.Helper()
	require.NoError(t, filepath.Walk(filepath.Join(jobs, from), func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		target := strings.ReplaceAll(path, from, to)
		if info.IsDir() {
			return os.MkdirAll(target, info.Mode().Perm())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, bytes.ReplaceAll(text, []byte(from), []byte(to)), info.Mode().Perm())
	}))
}

// startToBeat starts the agent and returns how long its first heartbeat took.
func (c *crowd) startToBeat() time.Duration {
	beats := c.server.Beats("chaos")
	begun := time.Now()
	c.start()
	require.NoError(c.t, c.server.Wait(c.ctx, func() bool { return c.server.Beats("chaos") > beats }), tail(c.daemon))
	return time.Since(begun)
}

// openFiles returns how many files the agent has open.
func (c *crowd) openFiles() int {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	require.NoError(c.t, err)
	return len(files)
}

// TestManyJobsWaitWithFewFiles starts an agent on many waiting jobs that may have no more
// than 300 files open, cancels the one that runs, and sees the others run.
func TestManyJobsWaitWithFewFiles(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 1500, false)
	c.startToBeat()
	_, err := c.limitFiles(unix.Rlimit{Cur: 300})
	require.NoError(t, err)
	require.Less(t, c.openFiles(), 100)
	for _, id := range []string{"0000000000000000", "0000000000000001", "0000000000000002"} {
		output := filepath.Join(c.home, "jobs", id, "process", "output")
		waitFor(t, c.ctx, "its output", func() bool {
			text, err := os.ReadFile(output)
			return err == nil && bytes.HasPrefix(text, []byte("line 0\n"))
		})
		c.command(fmt.Sprintf(`{"type":"cancel","command_id":%q}`, id))
	}
	require.NotContains(t, c.out.String(), "too many open files")
	c.stopAll()
}

// stopAll stops the agent, which runs, with its benchmark.
func (c *crowd) stopAll() {
	cmd := exec.CommandContext(c.ctx, c.prog.path, "stop", "--cancel")
	cmd.Env = append(os.Environ(), "KITT_HOME="+c.home)
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s\n%s", out, tail(c.daemon))
	c.stop()
}

// BenchmarkManyJobs reports what an agent with many jobs takes: seconds from its start to
// its first heartbeat, resident memory and open files.
func BenchmarkManyJobs(b *testing.B) {
	for _, bench := range []struct {
		n     int
		ended bool
	}{{2000, false}, {13_700, false}, {10_600, true}} {
		name := fmt.Sprintf("waiting=%d", bench.n)
		if bench.ended {
			name = fmt.Sprintf("kept=%d", bench.n)
		}
		b.Run(name, func(b *testing.B) {
			c := newCrowd(b, bench.n, bench.ended)
			for b.Loop() {
				b.ReportMetric(c.startToBeat().Seconds(), "s-to-heartbeat")
				b.ReportMetric(cpuSeconds(b, c.cmd.Process.Pid), "cpu-s-to-heartbeat")
				b.ReportMetric(float64(c.openFiles()), "files")
				b.ReportMetric(residentMiB(b, c.cmd.Process.Pid, "VmHWM"), "MiB-peak")
				require.True(b, c.settles(), tail(c.daemon))
				c.stop()
			}
			c.startToBeat()
			c.stopAll()
		})
	}
}

// BenchmarkFollowers has 1,000 followers read one job's log while it is printed, and
// reports the agent's memory, without followers and with them.
func BenchmarkFollowers(b *testing.B) {
	const followers, lines = 1000, 2000
	ctx, d := startLocalDaemon(b, 10*time.Minute)
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("job%d", i)
		d.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":"fake:lines.%d_width.100_delay.2ms"}}`, id, lines))
		waitFor(b, ctx, "the job", func() bool { return exists(filepath.Join(d.home, "jobs", id, "log")) })
		b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmRSS"), "MiB-without")
		var reading sync.WaitGroup
		var whole atomic.Int64
		for range followers {
			reading.Go(func() {
				if followToEnd(ctx, d, id) >= lines {
					whole.Add(1)
				}
			})
		}
		reading.Wait()
		require.EqualValues(b, followers, whole.Load(), "followers with every line")
		b.ReportMetric(residentMiB(b, d.cmd.Process.Pid, "VmHWM"), "MiB-peak")
	}
}

// followToEnd follows a job's log and returns how many lines of the benchmark it had.
func followToEnd(ctx context.Context, d *daemon, id string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/api/logs/%s", d.port, id), nil)
	if err != nil {
		return 0
	}
	req.Header.Set("Authorization", "Bearer chaos-token-0123456789")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	n := 0
	for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		n += bytes.Count(scanner.Bytes(), []byte("line "))
	}
	return n
}
