package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// dockerEngine returns the Docker engine of this machine. Where there must be one its
// absence fails.
func dockerEngine(t *testing.T) *dockertest.Engine {
	t.Helper()
	e, err := dockertest.Find(t.Context())
	if err != nil {
		if os.Getenv("KITT_TEST_DOCKER") == "1" {
			require.NoError(t, err, "KITT_TEST_DOCKER=1 asks for a Docker engine")
		}
		t.Skip("no Docker engine answers: ", err)
	}
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// requireWholeProof requires the verdict on a run whose agent was killed three times,
// everywhere.
func requireWholeProof(t *testing.T, server *kittapitest.Server, id, dir string) {
	t.Helper()
	report, err := integrity.ReadReport(filepath.Join(dir, "results", integrity.ReportFile))
	require.NoError(t, err)
	require.NotNil(t, report.End)
	require.NotEqual(t, integrity.Unjudged, report.Verdict.Grade, report.Verdict)
	require.Len(t, report.Gaps, 3, "the agent says when it was not there")
	require.NotNil(t, report.Start.Host.CPUTicks)
	require.Positive(t, report.Samples.Count)
	require.FileExists(t, filepath.Join(dir, "results", integrity.TelemetryFile))
	lines := server.Lines(id)
	require.Equal(t, report.Verdict.Line(), lines[len(lines)-1])
	told := server.Results()[0]["integrity"].(map[string]any)
	require.Equal(t, string(report.Verdict.Grade), told["verdict"])
}

// TestTheBenchmarkOutlivesItsAgent kills the agent three times while a benchmark
// logs a line every 50 ms: all lines are there, once and in order, and nothing is
// left behind.
func TestTheBenchmarkOutlivesItsAgent(t *testing.T) {
	for _, runner := range []string{"process", "docker"} {
		t.Run(runner, func(t *testing.T) {
			t.Parallel()
			prog := buildProgram(t)
			var more []string
			if runner == "docker" {
				e := dockerEngine(t)
				image := fmt.Sprintf("kitt-agent-restart-test:%d", os.Getpid())
				require.NoError(t, e.Build(t.Context(), image, filepath.Join(prog.bin, "kitt"), ""))
				t.Cleanup(func() { require.NoError(t, e.Remove(context.Background(), image)) })
				more = append(more, "kitt_image: "+image)
			}
			server, err := kittapitest.NewServer(kittapitest.Config{})
			require.NoError(t, err)
			defer server.Close()
			name := fmt.Sprintf("restart-%s-%d", runner, os.Getpid())
			server.AddAgent(name)
			const lines = 400
			id, commandID, err := server.Launch(name, fmt.Sprintf("fake:lines.%d_delay.50ms", lines))
			require.NoError(t, err)
			d := newDaemonNamed(t, prog, name, server.URL, runner, more...)
			d.start()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for kills := 1; kills <= 3; kills++ {
				require.NoError(t, waitForLines(ctx, server, id, kills*lines/5), tail(d))
				d.kill()
				pause(200 * time.Millisecond)
				d.start()
			}
			require.NoError(t, server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(d))
			row, _ := server.Test(id)
			require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, row.History, row.Error)
			got := numbersOf(server.Lines(id))
			require.Len(t, got, lines, strings.Join(server.Lines(id), "\n"))
			for i, n := range got {
				require.Equal(t, i, n)
			}
			require.Len(t, server.Results(), 1)
			requireWholeProof(t, server, id, filepath.Join(d.home, "jobs", commandID))
			d.stop()
			require.Empty(t, processesOf(t, prog))
			if runner == "docker" {
				requireNoContainer(t, commandID)
			}
		})
	}
}

// waitForLines waits until the server holds n lines of the benchmark's.
func waitForLines(ctx context.Context, server *kittapitest.Server, id string, n int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(numbersOf(server.Lines(id))) < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d lines of %d: %w\n%s", len(numbersOf(server.Lines(id))), n, ctx.Err(), strings.Join(server.Lines(id), "\n"))
		}
	}
	return nil
}

// requireNoContainer checks that the job's container is gone.
func requireNoContainer(t *testing.T, commandID string) {
	t.Helper()
	e := dockerEngine(t)
	list, err := e.Client.ContainerList(t.Context(), client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("label", docker.LabelCommand+"="+commandID),
	})
	require.NoError(t, err)
	require.Empty(t, list.Items)
}

// TestCancelFreesTheMachine cancels a benchmark that ignores the polite signal
// and has left a child behind: it is gone within the grace, and the report says
// who cancelled it.
func TestCancelFreesTheMachine(t *testing.T) {
	prog := buildProgram(t)
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("chaos")
	id, _, err := server.Launch("chaos", "fake:lines.3_fork-session_ignore-term_hang")
	require.NoError(t, err)
	d := newDaemon(t, prog, server.URL, "process")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, waitForLines(ctx, server, id, 3), tail(d))
	begun := time.Now()
	d.command(fmt.Sprintf(`{"type":"cancel","test_id":%q}`, id))
	require.NoError(t, server.WaitForStatus(ctx, id, "failed"))
	require.Less(t, time.Since(begun), 3*time.Second, "grace of 1 s and 2 s more")
	row, _ := server.Test(id)
	require.Equal(t, "Cancelled by user", row.Error)
	d.stop()
	require.Empty(t, processesOf(t, prog))
}

// TestASecondStartSaysWhoRuns starts two agents in one home.
func TestASecondStartSaysWhoRuns(t *testing.T) {
	prog := buildProgram(t)
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	d := newDaemon(t, prog, server.URL, "simulated")
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, server.WaitForAgent(ctx, "chaos"), tail(d))
	second := &daemon{t: t, prog: prog, home: d.home, port: d.port}
	second.start()
	require.Error(t, second.cmd.Wait())
	require.Equal(t, exitFailure, second.cmd.ProcessState.ExitCode())
	require.Contains(t, second.out.String(), fmt.Sprint(d.cmd.Process.Pid))
}
