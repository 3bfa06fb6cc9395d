package fleet_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident returns the memory of this process that is in RAM, in bytes (VmRSS of
// proc_pid_status(5)).
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(b, err)
			return float64(n) * 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// live returns what is in use after a collection: heap and stacks, in bytes.
func live() float64 {
	runtime.GC()
	runtime.GC() // the first one only marks what finalizers and pools let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// beside starts a server in a process of its own, so that what this process uses
// is the fleet's alone, and returns its address.
func beside(b *testing.B) string {
	b.Helper()
	exe, err := os.Executable()
	require.NoError(b, err)
	server := exec.Command(exe)
	server.Env = append(os.Environ(), serverEnv+"=1")
	server.Stderr = os.Stderr
	in, err := server.StdinPipe()
	require.NoError(b, err)
	out, err := server.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, server.Start())
	b.Cleanup(func() {
		require.NoError(b, in.Close())
		require.NoError(b, server.Wait())
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return strings.TrimSpace(url)
}

// BenchmarkIdle keeps a fleet beating every 30 s, over real HTTP to a server in
// another process: memory and goroutines of each agent, processor time of a
// heartbeat, agents that the server has not heard of in time.
//
//	go test ./agent/fleet -run xxx -bench Idle -benchtime 1x -timeout 30m
func BenchmarkIdle(b *testing.B) {
	for _, agents := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			client, err := kittapi.New(kittapi.Config{URL: beside(b)})
			require.NoError(b, err)
			var memory, ram, goroutines, perBeat, late, latency float64
			for b.Loop() {
				liveBefore, ramBefore, routines := live(), resident(b), runtime.NumGoroutine()
				f, stop := run(b, fleet.Config{
					Server: client, Interval: 30 * time.Second, Ramp: 30 * time.Second,
					Groups: []fleet.Group{{Count: agents, Hardware: fleet.Hardware{Profile: "h100-8"}}},
				})
				<-time.After(65 * time.Second) // all have registered and beaten once more
				s, used := f.Stats(), cpu(b)
				<-time.After(60 * time.Second)
				after := f.Stats()
				perBeat += float64((cpu(b) - used).Microseconds()) / float64(after.Requests-s.Requests)
				late += float64(int64(agents)-after.Online) / float64(agents)
				latency += float64(after.LatencyP99.Microseconds()) / 1000
				ram += (resident(b) - ramBefore) / float64(agents)
				goroutines += float64(runtime.NumGoroutine()-routines) / float64(agents)
				memory += (live() - liveBefore) / float64(agents)
				require.Zero(b, after.Errors, after.LastError)
				stop()
			}
			n := float64(b.N)
			b.ReportMetric(memory/n/1024, "live-KiB/agent")
			b.ReportMetric(ram/n/1024, "resident-KiB/agent")
			b.ReportMetric(goroutines/n, "goroutines/agent")
			b.ReportMetric(perBeat/n, "cpu-µs/beat")
			b.ReportMetric(late/n*100, "%offline")
			b.ReportMetric(latency/n, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkJobs runs a job on each of 1,000 agents, at speed 0 and over real HTTP
// to a server in this process, from the start of the first agent to the server's
// word that the last job has ended. Most of it is waiting for the disk, so TMPDIR
// on one in memory tells another story.
func BenchmarkJobs(b *testing.B) {
	const agents = 1000
	var took time.Duration
	var lines, requests, lost, used float64
	for b.Loop() {
		server, client := listen(b, kittapitest.Config{})
		begun, before := time.Now(), cpu(b)
		f, stop := run(b, fleet.Config{
			Server: client, Ramp: time.Second, Registered: launch(client, 1),
			Groups: []fleet.Group{{Count: agents, Hardware: fleet.Hardware{Profile: "h100-8"}}},
		})
		await(b, f, agents)
		took += time.Since(begun)
		used += (cpu(b) - before).Seconds()
		stop()
		s := f.Stats()
		require.EqualValues(b, agents, s.JobsCompleted)
		require.Zero(b, s.Errors, s.LastError)
		check, err := f.Check(b.Context())
		require.NoError(b, err)
		require.True(b, check.OK(), "%+v", check)
		require.Equal(b, agents, check.Jobs)
		require.Len(b, server.Results(), agents)
		lines += float64(check.Lines)
		lost += float64(check.Lost)
		requests += float64(s.Requests)
	}
	n := float64(b.N)
	b.ReportMetric(took.Seconds()/n, "s/1000-jobs")
	b.ReportMetric(used/n, "cpu-s/1000-jobs") // the server's too
	b.ReportMetric(lines/n, "lines")
	b.ReportMetric(lost/n, "lines-lost")
	b.ReportMetric(requests/n, "requests")
	b.ReportMetric(0, "ns/op")
}
