package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// privateEngine starts an engine that the test may break, with the image
// kitt:latest, and a runner on it.
func privateEngine(t *testing.T, options ...string) (*dockertest.Private, *docker.Runner) {
	t.Helper()
	needEngine(t)
	// Not t.TempDir, whose name is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "kitt-engine")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	before := interfaces(t)
	p, err := dockertest.StartPrivate(t.Context(), dir, options...)
	if err != nil {
		t.Skipf("SKIPPED because no Docker engine of our own can be started: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.Subset(t, interfaces(t), before, "the machine's own engine keeps its bridge")
	kitt, err := runnertest.BuildFakeKitt(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, p.Build(t.Context(), "kitt:latest", kitt, ""))
	r, err := docker.New(docker.Config{
		Host: p.Host, Timeout: 5 * time.Second, Supervisor: program.Source{Path: superviseProgram}, SocketProxy: program.Source{Path: proxyProgram},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return p, r
}

// interfaces returns the names of the machine's network interfaces, without
// those that come and go with containers.
func interfaces(t *testing.T) []string {
	all, err := net.Interfaces()
	require.NoError(t, err)
	var names []string
	for _, i := range all {
		if !strings.HasPrefix(i.Name, "veth") {
			names = append(names, i.Name)
		}
	}
	return names
}

func privateJob(t *testing.T, model string) runner.Job {
	return runner.Job{
		ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(),
		Model: model, Engine: "ollama", Suite: "quick", StopGrace: time.Second,
	}
}

// within gives a test of a broken engine an end.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// whenPrinted calls do once, in a goroutine of its own, when the output holds
// text; the goroutine has ended when the test ends.
func whenPrinted(t *testing.T, out *runnertest.Recorder, text string, do func()) (done chan struct{}) {
	done = make(chan struct{})
	started := false
	out.OnOutput(func() {
		if !started && strings.Contains(out.Text(), text) {
			started = true
			go func() { defer close(done); do() }()
		}
	})
	return done
}

// TestEngineIsKilledUnderLiveRestore kills the engine in mid-job and starts it
// again: the benchmark doesn't notice and no line is lost.
func TestEngineIsKilledUnderLiveRestore(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t, "--live-restore")
	job := privateJob(t, "fake:lines=200,delay=20ms")
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 50\n", func() {
		require.NoError(t, p.Kill())
		require.NoError(t, p.Start(context.Background()))
	})
	_, err := r.Run(within(t, time.Minute), job, &out)
	<-done
	require.NoError(t, err)
	require.Equal(t, lines(0, 200), out.Text())
	require.FileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))
}

// TestEngineIsRestartedWithoutLiveRestore ends the benchmark with the engine.
// That is said soon after the engine's return.
func TestEngineIsRestartedWithoutLiveRestore(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	job := privateJob(t, "fake:lines=20,hang")
	var out runnertest.Recorder
	var back time.Time
	done := whenPrinted(t, &out, "line 19\n", func() {
		require.NoError(t, p.Stop())
		require.NoError(t, p.Start(context.Background()))
		back = time.Now()
	})
	_, err := r.Run(within(t, time.Minute), job, &out)
	ended := time.Now()
	<-done
	t.Log(err)
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.NotZero(t, exit.Code)
	require.Contains(t, exit.Detail, "Docker engine")
	require.Less(t, ended.Sub(back), 10*time.Second)
	require.Equal(t, lines(0, 20), out.Text())
}

// TestEngineIsFrozen stops the engine for a while, and starts it again.
func TestEngineIsFrozen(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t)
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 20\n", func() {
		require.NoError(t, p.Signal(unix.SIGSTOP))
		<-time.After(3 * time.Second)
		require.NoError(t, p.Signal(unix.SIGCONT))
	})
	_, err := r.Run(within(t, time.Minute), privateJob(t, "fake:lines=100,delay=10ms"), &out)
	<-done
	require.NoError(t, err)
	require.Equal(t, lines(0, 100), out.Text())
}

// TestCancelWhileTheEngineIsAway stops a job that nobody can stop just then:
// that is done when the engine is back.
func TestCancelWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t, "--live-restore")
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	done := whenPrinted(t, &out, "line 0\n", func() {
		require.NoError(t, p.Kill())
		cancel(cause)
		<-time.After(3 * time.Second)
		require.NoError(t, p.Start(context.Background()))
	})
	job := privateJob(t, "fake:lines=1,hang")
	_, err := r.Run(ctx, job, &out)
	<-done
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, cause.Error(), "nothing is left of it")
	_, err = r.Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrLost)
}

// TestLogsAreKept runs on an engine that is set up to keep little of a log, and
// to drop lines rather than let anybody wait. The benchmark's log is whole all
// the same when somebody comes back to it after its end.
func TestLogsAreKept(t *testing.T) {
	t.Parallel()
	_, r := privateEngine(t, "--log-opt", "max-size=100k", "--log-opt", "max-file=2",
		"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=4k", "--log-opt", "compress=true")
	job := privateJob(t, "fake:lines=20000,width=100")
	ctx, letGo := context.WithCancelCause(within(t, time.Minute))
	var out runnertest.Recorder
	out.OnOutput(func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(job.ResultsDir, "metrics.json"))
		return err == nil
	}, time.Minute, 10*time.Millisecond)

	out.OnOutput(nil)
	_, err = r.Resume(within(t, time.Minute), job, out.Position(), &out)
	require.NoError(t, err)
	text := out.Text()
	require.Len(t, text, 20000*100)
	for i := range 20000 {
		require.True(t, strings.HasPrefix(text[100*i:], fmt.Sprintf("line %d ", i)), "line %d", i)
	}
}
