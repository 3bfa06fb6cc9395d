package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// newImage makes an image for one test.
func newImage(t *testing.T, image dockertest.Image) string {
	t.Helper()
	name := "kitt-agent-test:" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	require.NoError(t, engine.BuildImage(t.Context(), name, image))
	t.Cleanup(func() {
		require.NoError(t, errors.Join(removeContainers(context.Background(), name), engine.Remove(context.Background(), name)))
	})
	return name
}

// linked compiles a small program that plays kitt, linked against the C library
// of a compiler, and returns it with its loader.
func linked(t *testing.T, compiler string, libraries ...string) map[string][]byte {
	t.Helper()
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("SKIPPED for want of a compiler: %v", err)
	}
	source, program := filepath.Join(t.TempDir(), "kitt.c"), filepath.Join(t.TempDir(), "kitt")
	text := `#include <stdio.h>
int main(void) { for (int i = 0; i < 10; i++) { fprintf(i % 2 ? stderr : stdout, "line %d\n", i); fflush(stdout); } return 0; }`
	require.NoError(t, os.WriteFile(source, []byte(text), 0o600))
	out, err := exec.Command(compiler, "-o", program, source).CombinedOutput()
	require.NoError(t, err, string(out))
	files := map[string][]byte{}
	for to, from := range map[string]string{"usr/bin/kitt": program} {
		files[to], err = os.ReadFile(from)
		require.NoError(t, err)
	}
	for _, library := range libraries {
		data, err := os.ReadFile(library)
		if err != nil {
			t.Skipf("SKIPPED for want of a C library: %v", err)
		}
		files[strings.TrimPrefix(library, "/")] = data
	}
	return files
}

// TestImages runs benchmarks in images of all kinds, none of which knows of the
// supervisor.
func TestImages(t *testing.T) {
	needEngine(t)
	t.Parallel()
	if engine.Arch != "amd64" {
		t.Skip("SKIPPED: the paths of C libraries are those of amd64")
	}
	fake, err := runnertest.BuildFakeKitt(t.TempDir())
	require.NoError(t, err)
	program, err := os.ReadFile(fake)
	require.NoError(t, err)
	scratch := func(*testing.T) map[string][]byte { return map[string][]byte{"usr/bin/kitt": program} }
	glibc := func(t *testing.T) map[string][]byte {
		return linked(t, "gcc", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
	}
	musl := func(t *testing.T) map[string][]byte { return linked(t, "musl-gcc", "/lib/ld-musl-x86_64.so.1") }
	for name, c := range map[string]struct {
		files    func(*testing.T) map[string][]byte
		user     string
		readOnly bool
	}{
		"scratch":                {files: scratch},
		"scratch read only":      {files: scratch, readOnly: true},
		"scratch as a user":      {files: scratch, user: "12345:12345"},
		"scratch as nobody else": {files: scratch, user: "65534", readOnly: true},
		"glibc":                  {files: glibc},
		"glibc as a user":        {files: glibc, user: "12345", readOnly: true},
		"musl":                   {files: musl},
		"musl as a user":         {files: musl, user: "12345", readOnly: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			image := newImage(t, dockertest.Image{User: c.user, Files: c.files(t)})
			r := newRunner(t, docker.Config{DefaultImage: image, ReadOnlyRoot: c.readOnly})
			job := newJob(t, "fake:lines=10,no-metrics")
			var out runnertest.Recorder
			result, err := r.Run(t.Context(), job, &out)
			require.NoError(t, err)
			require.Equal(t, lines(0, 10), out.Text())
			require.False(t, result.Ended.Before(result.Started))
			text, err := os.ReadFile(filepath.Join(job.Dir, "run", "exit.json"))
			require.NoError(t, err)
			require.Contains(t, string(text), `"devices":`)
			info, err := os.Stat(filepath.Join(job.Dir, "run"))
			require.NoError(t, err)
			require.EqualValues(t, 0o777, info.Mode().Perm())
		})
	}
}

// TestNoKittInTheImage runs an image that holds no kitt. Nothing is measured in
// another environment instead.
func TestNoKittInTheImage(t *testing.T) {
	needEngine(t)
	t.Parallel()
	image := newImage(t, dockertest.Image{Files: map[string][]byte{"etc/empty": nil}})
	job := newJob(t, "fake:lines=1")
	_, err := newRunner(t, docker.Config{DefaultImage: image}).Run(t.Context(), job, &runnertest.Recorder{})
	require.NotErrorIs(t, err, runner.ErrUnavailable)
	require.NotErrorIs(t, err, runner.ErrNotReady)
	require.ErrorContains(t, err, `"kitt": executable file not found`)
	require.Empty(t, containers(t, job))
}

// detached runs job until it has printed text, and leaves it running.
func detached(t *testing.T, r *docker.Runner, job runner.Job, text string) *runnertest.Recorder {
	t.Helper()
	ctx, detach := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	out.OnOutput(func() {
		if strings.Contains(out.Text(), text) { // the next line may come with it
			detach(runner.ErrDetach)
		}
	})
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	out.OnOutput(nil)
	return &out
}

// TestRestartOfTheContainer restarts a container in mid-run, as a person or an
// engine may. The benchmark doesn't run twice, and did not succeed.
func TestRestartOfTheContainer(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=3,hang")
	out := detached(t, r, job, "line 2\n")
	id := containers(t, job)[0]
	grace := 5
	_, err := engine.Client.ContainerRestart(t.Context(), id, client.ContainerRestartOptions{Timeout: &grace})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		c, err := engine.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		return err == nil && c.Container.State.Status == container.StateExited && c.Container.State.ExitCode == 114
	}, 20*time.Second, 10*time.Millisecond, "the second start ends at once")
	_, err = r.Resume(t.Context(), job, out.Position(), out)
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, runner.ExitError{Code: 143, Signal: "SIGTERM", Detail: notOurs}, *exit)
	require.Equal(t, lines(0, 3), out.Text())
}

// TestRestartAfterTheEnd restarts a container whose benchmark succeeded while
// nobody looked: that stands.
func TestRestartAfterTheEnd(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=40,delay=20ms")
	out := detached(t, r, job, "line 2\n")
	id := containers(t, job)[0]
	state := func() *container.State {
		c, err := engine.Client.ContainerInspect(t.Context(), id, client.ContainerInspectOptions{})
		require.NoError(t, err)
		return c.Container.State
	}
	require.Eventually(t, func() bool { return state().Status == container.StateExited }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, 113, state().ExitCode, "an agent that looks at the engine alone doesn't take it for completed")
	_, err := engine.Client.ContainerStart(t.Context(), id, client.ContainerStartOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return state().ExitCode == 114 }, 20*time.Second, 10*time.Millisecond)
	_, err = r.Resume(t.Context(), job, out.Position(), out)
	require.NoError(t, err)
	require.Equal(t, lines(0, 40), out.Text())
}

// TestKilledContainer kills everything in a container at once: no file says how
// it ended, so the engine's word counts.
func TestKilledContainer(t *testing.T) {
	needEngine(t)
	t.Parallel()
	r, job := newRunner(t, docker.Config{}), newJob(t, "fake:lines=3,hang")
	var out runnertest.Recorder
	out.OnOutput(func() {
		if strings.HasSuffix(out.Text(), "line 2\n") {
			_, err := engine.Client.ContainerKill(context.Background(), containers(t, job)[0], client.ContainerKillOptions{Signal: "KILL"})
			require.NoError(t, err)
		}
	})
	_, err := r.Run(t.Context(), job, &out)
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, runner.ExitError{Code: 137, Signal: "SIGKILL", Detail: notOurs}, *exit)
}

// TestEngineEndsWithoutAWord has a supervised container of which the engine says
// something, and no file does. It never counts as completed.
func TestEngineEndsWithoutAWord(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 113, 114, 115} {
		s, r := newStub(t, nil)
		s.exit = ""
		s.answers["GET /containers/c1/json"] = reply(200, exited(code, false))
		_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
		require.ErrorIs(t, err, runner.ErrLost, "%d", code)
	}
	s, r := newStub(t, nil)
	s.exit = ""
	s.answers["GET /containers/c1/json"] = reply(200, exited(3, false))
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Code)
}

// TestFilesOverrideTheEngine has both say something else.
func TestFilesOverrideTheEngine(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	s.answers["GET /containers/c1/json"] = reply(200, exited(255, true))
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
	require.Zero(t, s.called("GET /containers/c1/json"), "it isn't even asked")
	s.exit = `{"version":1,"code":5}`
	s.answers["GET /containers/c1/json"] = reply(200, exited(0, false))
	_, err = r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.EqualError(t, err, "Exit 5")
}

// TestEndWithoutTheEngine has an engine that is away when the benchmark ends, and
// stays so: its outcome is on disk.
func TestEndWithoutTheEngine(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	away := reply(500, `{"message":"away"}`)
	s.answers["GET /containers/c1/json"], s.answers["DELETE /containers/c1"] = away, away
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
}

// TestHostileExit has a container put something else in the place of exit.json.
// The benchmark has not succeeded then, whatever the engine says.
func TestHostileExit(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "exit.json")
	require.NoError(t, os.WriteFile(good, []byte(`{"version":1,"code":0}`), 0o600))
	for name, trap := range map[string]func(path string) error{
		"symbolic link": func(path string) error { return os.Symlink(good, path) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o777) },
		"nonsense":      func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) },
		"later version": func(path string) error { return os.WriteFile(path, []byte(`{"version":2,"code":0}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := stubJob(t)
			s, r := newStub(t, nil)
			s.exit = ""
			s.answers["POST /containers/c1/start"] = func(w http.ResponseWriter, r *http.Request) {
				require.NoError(t, trap(filepath.Join(job.Dir, "run", "exit.json")))
				s.start(w, r)
			}
			_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
			require.ErrorIs(t, err, runner.ErrLost)
		})
	}
}

// TestRebootOfTheMachine has the claim of a run from before the machine's last
// start. The engine says 255, which no benchmark did.
func TestRebootOfTheMachine(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil)
	s.answers["GET /containers/c1/json"] = reply(200, exited(255, false))
	job := stubJob(t)
	supervisedRun(t, job, 1, "another-boot")
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "run", "output"), []byte("line 0\n"), 0o600))
	var out runnertest.Recorder
	_, err := r.Resume(t.Context(), job, 0, &out)
	require.ErrorIs(t, err, runner.ErrLost)
	require.ErrorContains(t, err, "the machine was restarted")
	require.Equal(t, "line 0\n", out.Text())
}

// supervisedRun makes the files of a run that was begun.
func supervisedRun(t *testing.T, job runner.Job, version int, boot string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(job.Dir, "docker"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(job.Dir, "run"), 0o777))
	record, err := json.Marshal(map[string]any{"version": version, "job": job.ID, "container": "c1", "boot": boot, "supervised": true})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), record, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "run", "started.json"), []byte(`{"version":1}`), 0o600))
}

// TestLaterVersionIsLeftAlone has the record of a newer agent, of whose container
// nothing is known but that it runs. It isn't ended but by a cancel.
func TestLaterVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	for cause, stops := range map[error]int{runner.ErrDetach: 0, errors.New("cancelled by a test"): 1} {
		s, r := newStub(t, nil)
		s.answers["GET /containers/json"] = reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"],"State":"running"}]`)
		s.answers["GET /containers/c1/json"] = reply(200, `{"Id":"c1","State":{"Status":"running"}}`)
		job := stubJob(t)
		supervisedRun(t, job, 2, "")
		ctx, cancel := context.WithCancelCause(t.Context())
		out := sayer{func(text string) {
			require.Contains(t, text, "newer version")
			cancel(cause)
		}}
		_, err := r.Resume(ctx, job, 0, out)
		require.ErrorIs(t, err, cause)
		require.Equal(t, stops, s.called("POST /containers/c1/stop"))
	}
	s, r := newStub(t, nil)
	s.answers["GET /containers/json"] = reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"],"State":"exited"}]`)
	job := stubJob(t)
	supervisedRun(t, job, 2, "")
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost, "it has ended, and how can't be known")
	require.Zero(t, s.called("DELETE /containers/c1"))
}

type sayer struct{ say func(string) }

func (s sayer) WriteMessage(text string) error                       { s.say(text); return nil }
func (s sayer) WriteOutput([]byte, time.Time, runner.Position) error { return nil }

// TestNoSupervisorProgram has nothing to put in front of a benchmark: the job is
// not begun, and another runner may have it.
func TestNoSupervisorProgram(t *testing.T) {
	t.Parallel()
	s, server := newStubServer(t, nil)
	config := docker.Config{Host: server}
	config.Supervisor.Path = filepath.Join(t.TempDir(), "none")
	r, err := docker.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	job := stubJob(t)
	_, err = r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.ErrorContains(t, err, "no kitt-supervise")
	require.ErrorIs(t, r.Ready(t.Context()), runner.ErrUnavailable)
	require.Zero(t, s.called("POST /containers/create"))
	_, err = r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

// TestEngineAndContainerdAreKilled kills both again and again in a flood and in
// quiet. The benchmark goes on, and no line is lost.
func TestEngineAndContainerdAreKilled(t *testing.T) {
	t.Parallel()
	p, r := privateEngine(t, "--live-restore")
	for i, model := range []string{"fake:lines=300,delay=10ms", "fake:lines=200000"} {
		job := privateJob(t, model)
		job.ID = fmt.Sprintf("job-%d", i)
		var out runnertest.Recorder
		done := whenPrinted(t, &out, "line 20\n", func() {
			for range 2 {
				require.NoError(t, p.Kill())
				require.NoError(t, p.KillContainerd())
				require.NoError(t, p.Start(context.Background()))
			}
		})
		_, err := r.Run(within(t, 2*time.Minute), job, &out)
		<-done
		require.NoError(t, err)
		want := map[int]int{0: 300, 1: 200_000}[i]
		require.Equal(t, lines(0, want), out.Text())
	}
}
