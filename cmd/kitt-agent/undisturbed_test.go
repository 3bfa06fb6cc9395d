package main

import (
	"bytes"
	"context"
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
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// BenchmarkUndisturbed compares the time that a benchmark which prints 100,000
// lines of 100 bytes takes under the agent, by its own clock, with the time that
// it takes when it writes to a file of its own: while the agent follows it, while
// the agent is frozen (SIGSTOP), while the server is dead, while fifty readers of
// its log are stuck, while the disk is full, and while all of that is so at once
// and for a minute: there the benchmark prints a line each millisecond. The two
// are run by turns; the figure is the median of the paired ratios.
func BenchmarkUndisturbed(b *testing.B) {
	prog := buildProgram(b)
	const flood = "fake:lines.100000_width.100_clock_no-metrics"
	for _, c := range []undisturbed{
		{name: "none", model: flood},
		{name: "frozen agent", model: flood, frozen: true},
		{name: "dead server", model: flood, deadServer: true},
		{name: "stuck readers", model: flood, readers: 50},
		{name: "full disk", model: "fake:lines.20000_width.100_delay.100us_clock_no-metrics", fullDisk: true},
		{name: "all at once", model: "fake:lines.55000_width.100_delay.1ms_clock_no-metrics", frozen: true, deadServer: true, readers: 50, fullDisk: true},
	} {
		b.Run(c.name, func(b *testing.B) { c.run(b, prog) })
	}
}

// undisturbed is what a benchmark has to live with.
type undisturbed struct {
	name, model                  string
	frozen, deadServer, fullDisk bool
	readers                      int

	container *contained                      // what it runs in; nil for the machine itself
	engine    func(*dockertest.Private) error // what is done to the engine meanwhile
}

// runnerName returns which runner it is for, and the directory of the job that
// the output is in.
func (c undisturbed) runnerName() (name, dir string) {
	if c.container != nil {
		return "docker", "run"
	}
	return "process", "process"
}

func (c undisturbed) run(b *testing.B, prog program) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(b, err)
	defer server.Close()
	server.AddAgent("chaos")
	runnerName, files := c.runnerName()
	d := newDaemon(b, prog, server.URL, runnerName)
	// The peer's file lies on the same file system.
	disk := d.home
	if c.fullDisk {
		disk = filepath.Join(d.home, "jobs")
		require.NoError(b, os.Mkdir(disk, 0o700))
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256m", "none", disk).CombinedOutput(); err != nil {
			b.Skipf("no file system of its own: mount: %v: %s", err, out)
		}
		b.Cleanup(func() { require.NoError(b, unix.Unmount(disk, unix.MNT_DETACH)) })
	}
	d.start()
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	require.NoError(b, server.WaitForAgent(ctx, "chaos"), tail(d))
	require.Eventually(b, func() bool { return undelivered(d) == 0 }, time.Minute, 10*time.Millisecond)
	if c.deadServer {
		require.NoError(b, server.Close())
	}
	var ratios, cpu []float64
	for i := 0; b.Loop(); i++ {
		alone := c.aloneSeconds(b, prog, disk)
		before := cpuSeconds(b, d.cmd.Process.Pid)
		id := fmt.Sprintf("job%d", i)
		d.command(fmt.Sprintf(`{"type":"run_test","command_id":%q,"payload":{"model_path":%q}}`, id, c.model))
		job := filepath.Join(d.home, "jobs", id)
		started, result := filepath.Join(job, files, "started.json"), filepath.Join(job, "result.json")
		waitFor(b, ctx, started, func() bool { return exists(started) })
		free := c.disturb(b, d, id)
		output := filepath.Join(job, files, "output")
		waitFor(b, ctx, output, func() bool { return exists(output) && secondsIn(b, output) > 0 })
		ratios = append(ratios, secondsIn(b, output)/alone)
		free()
		waitFor(b, ctx, result, func() bool { return exists(result) })
		if !c.deadServer {
			waitFor(b, ctx, "reports", func() bool { return undelivered(d) == 0 })
		}
		var lines int
		_, err := fmt.Sscanf(c.model, "fake:lines.%d_", &lines)
		require.NoError(b, err)
		cpu = append(cpu, (cpuSeconds(b, d.cmd.Process.Pid)-before)/float64(lines)*10_000)
	}
	slices.Sort(cpu)
	b.ReportMetric(cpu[len(cpu)/2], "agent-cpu-s/10k-lines")
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-alone")
	b.ReportMetric(ratios[0], "x-least")
	b.ReportMetric(ratios[len(ratios)-1], "x-most")
}

// disturb begins what a running job has to live with, and returns what ends it.
func (c undisturbed) disturb(b *testing.B, d *daemon, id string) (end func()) {
	var ends []func()
	for range c.readers {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		require.NoError(b, err)
		ends = append(ends, func() { conn.Close() })
		fmt.Fprintf(conn, "GET /api/logs/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer chaos-token-0123456789\r\n\r\n", id)
	}
	if c.fullDisk {
		// All but what metrics.json needs, which is the benchmark's own.
		var disk unix.Statfs_t
		require.NoError(b, unix.Statfs(filepath.Join(d.home, "jobs"), &disk))
		ballast, err := os.Create(filepath.Join(d.home, "jobs", ".ballast"))
		require.NoError(b, err)
		require.NoError(b, unix.Fallocate(int(ballast.Fd()), 0, 0, (int64(disk.Bavail)-4)*disk.Bsize))
		require.NoError(b, ballast.Close())
		ends = append(ends, func() { require.NoError(b, os.Remove(ballast.Name())) })
	}
	if c.engine != nil {
		c.container.harm(b, id, c.engine)
		ends = append(ends, func() { require.NoError(b, c.container.engine.Start(context.Background())) })
	}
	if c.frozen {
		require.NoError(b, d.cmd.Process.Signal(syscall.SIGSTOP))
		ends = append(ends, func() { require.NoError(b, d.cmd.Process.Signal(syscall.SIGCONT)) })
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// aloneSeconds runs the benchmark without an agent, into a file of its own in the
// same place.
func (c undisturbed) aloneSeconds(b *testing.B, prog program, disk string) float64 {
	if c.container != nil {
		return c.container.aloneSeconds(b, disk, c.model)
	}
	return aloneSeconds(b, prog, disk, c.model)
}

// cpuSeconds returns the processor time that a process has taken, from
// /proc/PID/stat (proc(5)).
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var user, system float64
	_, err = fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system)
	require.NoError(b, err)
	const tick = 100 // per second, sysconf(_SC_CLK_TCK)
	return (user + system) / tick
}

// aloneSeconds runs the benchmark without an agent, into a file of its own on
// the disk of a directory.
func aloneSeconds(b *testing.B, prog program, disk, model string) float64 {
	b.Helper()
	dir, err := os.MkdirTemp(disk, ".alone-*")
	require.NoError(b, err)
	defer os.RemoveAll(dir)
	out, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(b, err)
	defer out.Close()
	cmd := exec.Command(filepath.Join(prog.bin, "kitt"), "run", "-m", model, "-e", "vllm", "-s", "quick", "-o", dir)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(b, cmd.Run())
	return secondsIn(b, out.Name())
}

// secondsIn returns the time that a benchmark took by its own clock, as it says
// at the end of its output; 0 if it has not.
func secondsIn(b *testing.B, output string) float64 {
	b.Helper()
	f, err := os.Open(output)
	require.NoError(b, err)
	defer f.Close()
	end := make([]byte, 256)
	info, err := f.Stat()
	require.NoError(b, err)
	n, _ := f.ReadAt(end, max(0, info.Size()-int64(len(end)))) // it ends there
	var seconds float64
	if i := bytes.LastIndex(end[:n], []byte("\ntook ")); i >= 0 {
		_, _ = fmt.Sscanf(string(end[i:n]), "\ntook %f s\n", &seconds)
	}
	return seconds
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func waitFor(b testing.TB, ctx context.Context, what string, ok func() bool) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.NoError(b, ctx.Err(), what)
		}
	}
}
