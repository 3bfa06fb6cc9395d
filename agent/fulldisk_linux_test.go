package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// smallDisk returns a directory on a file system of its own with room for size, and
// what fills the room that is left, and makes it free again.
func smallDisk(t *testing.T, size string) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Geteuid() == 0 && os.Getenv("CI") != "" {
			require.NoError(t, err, "CI runs as root and can mount")
		}
		t.Skip("no file system of its own for the test: ", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		require.NoError(t, err)
		_, err = io.Copy(f, zeros{})
		require.ErrorIs(t, err, unix.ENOSPC)
		require.NoError(t, f.Close())
	}
	return dir, fill, func() { require.NoError(t, os.Remove(ballast)) }
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// diskless is an engine whose benchmarks need no disk.
type diskless struct{ *engine }

func (d diskless) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	return withoutDisk(d.engine.Run(ctx, job, out))
}

func (d diskless) Resume(ctx context.Context, job runner.Job, from runner.Position, out runner.Output) (runner.Result, error) {
	return withoutDisk(d.engine.Resume(ctx, job, from, out))
}

func withoutDisk(result runner.Result, err error) (runner.Result, error) {
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return result, err
}

// TestAJobRunsUntilItsLogHasSaidWhatIsMissing ends a benchmark while the disk is
// full, with restarts of the agent in between. Once there is room each line is in the
// log, or counted by a gap, and so is the last word on the job.
func TestAJobRunsUntilItsLogHasSaidWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir, fill, free := smallDisk(t, "4m")
	synctest.Test(t, func(t *testing.T) {
		const lines = 2000
		srv, run := &agenttest.Server{}, diskless{&engine{lines: lines, pace: 100 * time.Millisecond}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		id := srv.Launch("m")
		require.NoError(t, srv.Wait(within(t, time.Minute), id, "running"))
		<-time.After(40 * time.Second)
		fill()
		<-time.After(40 * time.Second)
		stop()
		for range 2 { // it ends while the first of them is there
			fill() // a file that the agent before this one replaced may have left room
			a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
			for range 100 {
				<-time.After(3 * time.Second)
				fill()
			}
			require.Len(t, a.Status().Jobs, 1)
			require.Equal(t, agent.StateRunning, a.Status().Jobs[0].State)
			require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "no space left on device")
			stop()
		}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		<-time.After(time.Minute)
		free()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
		got := srv.Lines(id)
		require.Equal(t, "Benchmark completed", got[len(got)-1])
		require.Empty(t, a.Status().Warnings)
		came, missing := 0, 0
		for _, line := range got {
			var n int
			if _, err := fmt.Sscanf(line, "%d lines are missing here", &n); err == nil {
				missing += n
			} else if _, err := fmt.Sscanf(line, "line %d", &n); err == nil {
				require.GreaterOrEqual(t, n, came, "in order")
				came++
			}
		}
		require.GreaterOrEqual(t, came+missing, lines)
		require.LessOrEqual(t, came+missing, lines+3, "and the agent's own words on each start")
		require.Positive(t, missing)
	})
}

// TestAResultWaitsForRoom ends a benchmark when the disk has room for what it measured
// and not for the report: its numbers arrive once there is room.
func TestAResultWaitsForRoom(t *testing.T) {
	t.Parallel()
	dir, fill, free := smallDisk(t, "4m")
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: func(_ context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			metrics := fmt.Sprintf(`{"passed":true,"text":%q}`, strings.Repeat("x", 100_000))
			err := os.WriteFile(filepath.Join(job.ResultsDir, runner.MetricsFile), []byte(metrics), 0o600)
			fill()
			return runner.Result{Runner: "play"}, err
		}}
		a, stop := start(t, agent.Config{Server: srv, Runner: run, Dir: dir})
		defer stop()
		id := srv.Launch("m")
		<-time.After(10 * time.Minute)
		require.Len(t, a.Status().Jobs, 1)
		require.Equal(t, agent.StateFinishing, a.Status().Jobs[0].State)
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "waits to write its report")
		free()
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), id, "completed"))
		synctest.Wait()
		require.Len(t, srv.Results(), 1)
		require.Len(t, srv.Results()[0].Data["text"], 100_000)
	})
}
