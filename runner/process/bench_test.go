package process_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// flood prints 100,000 lines of 100 bytes.
const (
	flood     = "fake:lines=100000,width=100"
	floodSize = 100 * 100_000
)

// BenchmarkChild tells what it costs the benchmark itself that somebody listens.
// It prints a flood, by turns, into a file of its own; followed by us; with us
// frozen from the start to beyond its end; and with us killed. The figures are
// the medians, over the turns, of its own wall time against that with a file of
// its own. The goal is 1.02 at most; `again` is a second run with a file of its
// own, so the noise of the machine.
func BenchmarkChild(b *testing.B) {
	var again, followed, frozen, killed []float64
	b.SetBytes(5 * floodSize)
	for b.Loop() {
		own := ownFile(b)
		again = append(again, ownFile(b)/own)
		followed = append(followed, withUs(b)/own)
		frozen = append(frozen, withADriver(b, unix.SIGSTOP)/own)
		killed = append(killed, withADriver(b, unix.SIGKILL)/own)
	}
	b.ReportMetric(median(again), "again/own")
	b.ReportMetric(median(followed), "followed/own")
	b.ReportMetric(median(frozen), "frozen/own")
	b.ReportMetric(median(killed), "killed/own")
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// seconds returns how long the printing took by the program's own clock.
func seconds(b *testing.B, job runner.Job) float64 {
	text, err := os.ReadFile(filepath.Join(job.ResultsDir, "metrics.json"))
	require.NoError(b, err)
	var m struct {
		Seconds float64 `json:"total_time_seconds"`
	}
	require.NoError(b, json.Unmarshal(text, &m))
	require.NoError(b, os.RemoveAll(job.Dir)) // else they add up
	return m.Seconds
}

func ownFile(b *testing.B) float64 {
	job := newJob(b, flood)
	out, err := os.Create(filepath.Join(job.Dir, "output"))
	require.NoError(b, err)
	cmd := exec.Command(kitt, job.Arguments()...)
	cmd.Stdout = out
	require.NoError(b, cmd.Run())
	require.NoError(b, out.Close())
	return seconds(b, job)
}

func withUs(b *testing.B) float64 {
	job := newJob(b, flood)
	var size counter
	_, err := supervised(b).Run(b.Context(), job, &size)
	require.NoError(b, err)
	require.EqualValues(b, floodSize, size)
	return seconds(b, job)
}

// withADriver sends the program that follows the benchmark a signal once that
// has begun.
func withADriver(b *testing.B, sig unix.Signal) float64 {
	job := newJob(b, flood)
	driver := startDriver(b, job)
	require.Eventually(b, func() bool {
		info, err := os.Stat(filepath.Join(job.Dir, "process", "output"))
		return err == nil && info.Size() > 0
	}, time.Minute, time.Millisecond)
	require.NoError(b, driver.Process.Signal(sig))
	require.Eventually(b, func() bool {
		_, err := os.Stat(filepath.Join(job.Dir, "process", "exit.json"))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	_ = driver.Process.Kill() // it may be dead
	require.Error(b, driver.Wait())
	return seconds(b, job)
}

// BenchmarkFollow brings a flood to its Output, from the start of the
// benchmark's process to its recorded end.
func BenchmarkFollow(b *testing.B) {
	b.SetBytes(floodSize)
	r := supervised(b)
	for b.Loop() {
		job := newJob(b, flood)
		var size counter
		_, err := r.Run(b.Context(), job, &size)
		require.NoError(b, err)
		require.EqualValues(b, floodSize, size)
		require.NoError(b, os.RemoveAll(job.Dir))
	}
}

// BenchmarkIdle follows a benchmark that prints nothing for three seconds, and tells
// the CPU that this takes, in percent of one core.
func BenchmarkIdle(b *testing.B) {
	r := supervised(b)
	var before, after unix.Rusage
	begin := time.Now()
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	for b.Loop() {
		_, err := r.Run(b.Context(), newJob(b, "fake:lines=1,delay=3s"), &runnertest.Recorder{})
		require.NoError(b, err)
	}
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(100*float64(cpu)/float64(time.Since(begin)), "%cpu")
}

// A counter is an Output that counts bytes.
type counter int64

func (c *counter) WriteMessage(string) error { return nil }

func (c *counter) WriteOutput(p []byte, _ time.Time, _ runner.Position) error {
	*c += counter(len(p))
	return nil
}
