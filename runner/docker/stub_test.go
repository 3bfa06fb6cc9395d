package docker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A stub plays the Docker engine. Each answer is keyed by method and path,
// without the version.
type stub struct {
	answers map[string]http.HandlerFunc
	exit    string // what a supervisor writes as exit.json once it is started; empty for none

	mu     sync.Mutex
	calls  []string
	runDir string // of the container that was asked for
}

var apiVersion = regexp.MustCompile(`^/v1\.\d+`)

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	call := r.Method + " " + apiVersion.ReplaceAllString(r.URL.Path, "")
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	if call == "POST /containers/create" {
		s.remember(r)
	}
	answer, ok := s.answers[call]
	if !ok {
		http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
		return
	}
	answer(w, r)
}

// remember looks where the container's supervisor is to write its files.
func (s *stub) remember(r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(data))
	var body struct{ Entrypoint []string }
	if json.Unmarshal(data, &body) == nil && len(body.Entrypoint) > 2 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.runDir = body.Entrypoint[2]
	}
}

// start plays a container whose supervisor claims the run, and ends.
func (s *stub) start(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runDir != "" {
		err := os.WriteFile(filepath.Join(s.runDir, "started.json"), []byte(`{"version":1}`), 0o600)
		if err == nil && s.exit != "" {
			err = os.WriteFile(filepath.Join(s.runDir, "exit.json"), []byte(s.exit), 0o600)
		}
		if err != nil {
			reply(500, `{"message":"`+err.Error()+`"}`)(w, r)
			return
		}
	}
	reply(204, "")(w, r)
}

func (s *stub) called(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func exited(code int, oom bool) string {
	return fmt.Sprintf(`{"Id":"c1","State":{"Status":"exited","ExitCode":%d,"OOMKilled":%v,`+
		`"StartedAt":"2026-11-23T16:16:01.5Z","FinishedAt":"2026-11-23T16:17:01.5Z"}}`, code, oom)
}

// newStub returns an engine on which every run succeeds without a word.
func newStub(t *testing.T, change map[string]http.HandlerFunc) (*stub, *docker.Runner) {
	s, host := newStubServer(t, change)
	return s, newRunner(t, docker.Config{Host: host, DefaultImage: "kitt:latest", Timeout: 5 * time.Second})
}

func newStubServer(t *testing.T, change map[string]http.HandlerFunc) (s *stub, host string) {
	s = &stub{exit: `{"version":1,"code":0}`}
	s.answers = map[string]http.HandlerFunc{
		"GET /_ping":                   reply(200, "OK"),
		"HEAD /_ping":                  reply(200, ""),
		"GET /version":                 reply(200, `{"Arch":"amd64","ApiVersion":"1.41"}`),
		"GET /images/kitt:latest/json": reply(200, `{"Id":"sha256:1","Architecture":"amd64"}`),
		"GET /images/sha256:1/json":    reply(200, `{"Id":"sha256:1","Config":{"User":"kitt"}}`),
		"GET /info":                    reply(200, `{}`),
		"GET /containers/json":         reply(200, `[]`),
		"POST /containers/create":      reply(201, `{"Id":"c1"}`),
		"POST /containers/c1/start":    s.start,
		"POST /containers/c1/stop":     reply(204, ""),
		"GET /containers/c1/logs":      reply(200, ""),
		"GET /containers/c1/json":      reply(200, exited(0, false)),
		"DELETE /containers/c1":        reply(204, ""),
	}
	for call, answer := range change {
		s.answers[call] = answer
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, "tcp://" + server.Listener.Addr().String()
}

func stubJob(t *testing.T) runner.Job {
	return runner.Job{ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(), Model: "m", GPUs: []string{runner.AllGPUs}, StopGrace: time.Second}
}

func TestMissingGPURuntime(t *testing.T) {
	t.Parallel()
	var body string
	s, r := newStub(t, map[string]http.HandlerFunc{
		"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			body = string(data)
			reply(201, `{"Id":"c1"}`)(w, r)
		},
		"POST /containers/c1/start": reply(500,
			`{"message":"could not select device driver \"\" with capabilities: [[gpu]]"}`),
	})
	job := stubJob(t)
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, runner.ClassGPURuntime, e.Class)
	require.Contains(t, e.Fix, "nvidia-container-toolkit")
	require.NotErrorIs(t, err, runner.ErrUnavailable)
	require.Contains(t, body, `"DeviceRequests":[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":null}]`)
	require.Equal(t, 1, s.called("DELETE /containers/c1"), "it is removed")
	_, err = r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{"GET /containers/c1/json": reply(200, exited(137, true))})
	s.exit = "" // the supervisor was killed with the benchmark
	result, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	class, _ := exit.Fault()
	require.Equal(t, runner.ClassOOM, class)
	require.Equal(t, time.Minute, result.Ended.Sub(result.Started))
}

func frame(stamp, text string) string {
	entry := stamp + " " + text
	header := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(header[4:], uint32(len(entry)))
	return string(header) + entry
}

// TestStreamCut has the log's stream end in mid-run, as it does when the engine
// is restarted, and then the engine answer with errors for a while.
func TestStreamCut(t *testing.T) {
	t.Parallel()
	all := []string{
		frame("2026-11-23T16:16:01.500000001Z", "one\n"), frame("2026-11-23T16:16:01.500000001Z", "two\n"),
		frame("2026-11-23T16:16:01.500000003Z", "three\n"), frame("2026-11-23T16:16:01.500000002Z", "four\n"),
		frame("2026-11-23T16:16:01.500000003Z", "five\n"),
	}
	var mu sync.Mutex
	opened, asked := 0, 0
	_, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/c1/logs": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			opened++
			// Each time there is one entry more, and the next is cut in two.
			n := min(opened, len(all))
			io.WriteString(w, strings.Join(all[:n], ""))
			if n < len(all) {
				io.WriteString(w, all[n][:11])
			}
		},
		"GET /containers/c1/json": func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			switch {
			case asked == 1:
				reply(500, `{"message":"starting up"}`)(w, r)
			case opened < len(all):
				reply(200, `{"Id":"c1","State":{"Status":"running"}}`)(w, r)
			default:
				reply(200, exited(0, false))(w, r)
			}
		},
	})
	job := stubJob(t)
	begun(t, job)
	var out runnertest.Recorder
	_, err := r.Resume(t.Context(), job, 0, &out)
	require.NoError(t, err)
	require.Equal(t, "one\ntwo\nthree\nfour\nfive\n", out.Text())
	require.Contains(t, out.Messages(), "waiting for the Docker engine: ")
	require.Contains(t, out.Messages(), "the Docker engine answers again\n")
}

// TestClockSetBack has the machine's clock set back by an hour before the log's
// stream ends in mid-run.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	var s *stub
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/c1/logs": func(w http.ResponseWriter, r *http.Request) {
			n := min(s.called("GET /containers/c1/logs")+1, 4)
			for i, stamp := range []string{"16:16:01.5Z", "15:16:02Z", "15:16:03Z", "15:16:04Z"}[:n] {
				at, err := time.Parse(time.RFC3339Nano, "2026-11-23T"+stamp)
				require.NoError(t, err)
				since, _ := strconv.ParseFloat(r.URL.Query().Get("since"), 64)
				if at.Unix() >= int64(since) {
					io.WriteString(w, frame("2026-11-23T"+stamp, fmt.Sprintf("line %d\n", i)))
				}
			}
		},
		"GET /containers/c1/json": func(w http.ResponseWriter, r *http.Request) {
			if s.called("GET /containers/c1/logs") < 2 {
				reply(200, `{"Id":"c1","State":{"Status":"running"}}`)(w, r)
				return
			}
			reply(200, exited(0, false))(w, r)
		},
	})
	job := stubJob(t)
	begun(t, job)
	var out runnertest.Recorder
	_, err := r.Resume(t.Context(), job, 0, &out)
	require.NoError(t, err)
	require.Equal(t, lines(0, 4), out.Text())
}

// TestLogThatCantBeWritten has the job's log refuse what the runner says of an
// engine that is away: that ends no benchmark.
func TestLogThatCantBeWritten(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/c1/json": once(reply(500, `{"message":"starting up"}`), reply(200, exited(0, false))),
	})
	job := stubJob(t)
	begun(t, job)
	_, err := r.Resume(t.Context(), job, 0, &refusing{full: true})
	require.EqualError(t, err, "write to the job's log: no space left on device")
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}

// refusing is an Output that takes the first line and no more.
type refusing struct {
	runnertest.Recorder
	full bool
}

func (r *refusing) WriteMessage(string) error {
	if r.full {
		return unix.ENOSPC
	}
	r.full = true
	return nil
}

// TestEndThatCantBeNotedDown has no room on the disk when a run ends: it has
// ended all the same.
func TestEndThatCantBeNotedDown(t *testing.T) {
	t.Parallel()
	job := stubJob(t)
	var s *stub
	s, r := newStub(t, map[string]http.HandlerFunc{
		"POST /containers/c1/start": func(w http.ResponseWriter, r *http.Request) {
			dir := filepath.Join(job.Dir, "docker")
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600)) // no file can be made in it
			s.start(w, r)
		},
	})
	result, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.NoError(t, err)
	require.False(t, result.Ended.IsZero())
	require.Zero(t, s.called("DELETE /containers/c1"), "it can tell its end again")
}

func TestEngineAway(t *testing.T) {
	t.Parallel()
	r := newRunner(t, docker.Config{Host: "unix://" + filepath.Join(t.TempDir(), "none.sock"), DefaultImage: "kitt:latest"})
	err := r.CheckStart(t.Context())
	require.ErrorIs(t, err, runner.ErrNotReady)
	require.NotErrorIs(t, err, runner.ErrUnavailable, "the image may be there")
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, runner.ClassEngine, e.Class)
	_, err = r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotReady)
	require.NotErrorIs(t, err, runner.ErrUnavailable)
	_, err = r.Engines(t.Context())
	require.Error(t, err)
	_, err = docker.New(docker.Config{Host: "nonsense"})
	require.Error(t, err)
}

// TestHungEngine has an engine that takes calls and never answers.
func TestHungEngine(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	r := newRunner(t, docker.Config{
		Host: "tcp://" + server.Listener.Addr().String(), DefaultImage: "kitt:latest", Timeout: 100 * time.Millisecond,
	})
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotReady)
	require.NotErrorIs(t, err, runner.ErrUnavailable)
}

func TestResumeStartsWhatWasCreated(t *testing.T) {
	t.Parallel()
	var s *stub
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/json": reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"]}]`),
		"GET /containers/c1/json": func(w http.ResponseWriter, r *http.Request) {
			if s.called("POST /containers/c1/start") == 0 {
				reply(200, `{"Id":"c1","State":{"Status":"created"}}`)(w, r)
				return
			}
			reply(200, exited(0, false))(w, r)
		},
	})
	job := stubJob(t)
	require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
	intent := []byte(`{"version":1,"job":"job-1","image":"sha256:1"}`)
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), intent, 0o600))
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, 1, s.called("POST /containers/c1/start"))
	require.Zero(t, s.called("POST /containers/create"))
}

func TestResumeAfterACrash(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		want error
	}{
		"intent only":   {`{"version":1,"job":"job-1"}`, runner.ErrNotStarted},
		"created":       {`{"version":1,"job":"job-1","container":"c9"}`, runner.ErrLost},
		"broken":        {`{`, runner.ErrLost},
		"another job's": {`{"version":1,"job":"job-2"}`, runner.ErrLost},
		"later version": {`{"version":2,"job":"job-1"}`, runner.ErrLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, r := newStub(t, nil)
			job := stubJob(t)
			require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), []byte(c.file), 0o600))
			_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
			require.ErrorIs(t, err, c.want)
		})
	}
}

// TestStopWhileStarting stops a run whose start hangs. One that is let go of
// leaves the container, for Resume to find.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	for cause, removed := range map[error]int{runner.ErrDetach: 0, errors.New("stopped by a test"): 1} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		s, r := newStub(t, map[string]http.HandlerFunc{
			"POST /containers/c1/start": func(_ http.ResponseWriter, r *http.Request) {
				cancel(cause)
				<-r.Context().Done()
			},
		})
		_, err := r.Run(ctx, stubJob(t), &runnertest.Recorder{})
		require.ErrorIs(t, err, cause)
		require.Equal(t, removed, s.called("DELETE /containers/c1"))
	}
}

// TestResumeTakesTheOneThatRuns has two containers of one job, of which one was
// never started: starting that would run the job twice.
func TestResumeTakesTheOneThatRuns(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"", "c1"} {
		s, r := newStub(t, map[string]http.HandlerFunc{
			"GET /containers/json": reply(200, `[{"Id":"c0","State":"created"},{"Id":"c1","State":"exited"},{"Id":"c2","State":"created"}]`),
		})
		job := stubJob(t)
		require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
		text := fmt.Sprintf(`{"version":1,"job":"job-1","container":%q}`, known)
		require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), []byte(text), 0o600))
		result, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
		require.NoError(t, err)
		require.Equal(t, "c1", result.ContainerID)
		require.Zero(t, s.called("POST /containers/c0/start"))
	}
}

// begun writes down that a job has the container c1, as Run does.
func begun(t *testing.T, job runner.Job) {
	require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
	text := []byte(`{"version":1,"job":"job-1","container":"c1"}`)
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), text, 0o600))
}

// once returns a handler that fails at first.
func once(first http.HandlerFunc, then http.HandlerFunc) http.HandlerFunc {
	var failed atomic.Bool
	return func(w http.ResponseWriter, r *http.Request) {
		if !failed.Swap(true) {
			first(w, r)
			return
		}
		then(w, r)
	}
}

// TestResumeIsStoppedWhileTheEngineIsAway stops a run before the engine has told
// anything of it: it is ended when the engine is back.
func TestResumeIsStoppedWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/json": func(w http.ResponseWriter, r *http.Request) {
			cancel(cause)
			reply(500, `{"message":"starting up"}`)(w, r)
		},
		"DELETE /containers/c1": once(reply(500, `{"message":"starting up"}`), reply(204, "")),
	})
	job := stubJob(t)
	begun(t, job)
	_, err := r.Resume(ctx, job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, cause.Error(), "nothing is left of it")
	require.Equal(t, 2, s.called("DELETE /containers/c1"))
}

// TestResumeStartsWhatWasCreatedLater has an engine that doesn't tell at first
// that the container was never started.
func TestResumeStartsWhatWasCreatedLater(t *testing.T) {
	t.Parallel()
	var s *stub
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/json": reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"]}]`),
		"GET /containers/c1/json": once(reply(500, `{"message":"starting up"}`), func(w http.ResponseWriter, r *http.Request) {
			if s.called("POST /containers/c1/start") == 0 {
				reply(200, `{"Id":"c1","State":{"Status":"created"}}`)(w, r)
				return
			}
			reply(200, exited(0, false))(w, r)
		}),
	})
	job := stubJob(t)
	begun(t, job)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := r.Resume(ctx, job, 0, &runnertest.Recorder{})
	require.NoError(t, err)
}

// TestFailedStartLeavesNothing has an engine that fails to start a container,
// and at first to remove it.
func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"POST /containers/c1/start": reply(500, `{"message":"shutting down"}`),
		"DELETE /containers/c1":     once(reply(500, `{"message":"shutting down"}`), reply(204, "")),
	})
	job := stubJob(t)
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorContains(t, err, "start the container")
	require.Equal(t, 2, s.called("DELETE /containers/c1"))
	_, err = r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

// TestResumeWithABrokenFileEndsTheRun has a file that no longer says anything of a
// container that runs: nobody could follow it.
func TestResumeWithABrokenFileEndsTheRun(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/json": reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"],"State":"running"}]`),
	})
	job := stubJob(t)
	begun(t, job)
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), nil, 0o600))
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.Equal(t, 1, s.called("POST /containers/c1/stop"))
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}

// TestStopWhileTheImageIsChosen stops a run before there is anything to stop:
// that the engine's answer isn't awaited says nothing about the engine.
func TestStopWhileTheImageIsChosen(t *testing.T) {
	t.Parallel()
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, r := newStub(t, map[string]http.HandlerFunc{
		"GET /version": func(_ http.ResponseWriter, r *http.Request) {
			cancel(cause)
			<-r.Context().Done()
		},
	})
	_, err := r.Run(ctx, stubJob(t), &runnertest.Recorder{})
	require.Equal(t, cause, err)
}

// TestResumeUnderAnotherName resumes a run that the agent began before it was
// given another name.
func TestResumeUnderAnotherName(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, nil) // it lists no containers with the new name
	job := stubJob(t)
	begun(t, job)
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}

// TestResumeAfterTheEnd has a container whose end was noted down, and whose
// removal was begun.
func TestResumeAfterTheEnd(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"GET /containers/json":    reply(200, `[{"Id":"c1","State":"removing"}]`),
		"GET /containers/c1/json": reply(404, `{"message":"no such container"}`),
	})
	job := stubJob(t)
	require.NoError(t, os.Mkdir(filepath.Join(job.Dir, "docker"), 0o700))
	text := []byte(`{"version":1,"job":"job-1","container":"c1","end":{"code":3}}`)
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), text, 0o600))
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Code)
	require.Equal(t, 1, s.called("DELETE /containers/c1"))
}

// TestAStartThatWasCutOffIsMadeAgain has an engine that was killed while it started a
// container, and since then can't start it: another one is made, and the benchmark runs.
func TestAStartThatWasCutOffIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"task c1: already exists", "failed to start shim: mkdir /run/containerd/c1: file exists: unknown"} {
		s, r := newStub(t, map[string]http.HandlerFunc{
			"POST /containers/c1/start": reply(500, `{"message":"`+left+`"}`),
			"GET /containers/c2/json":   reply(200, strings.Replace(exited(0, false), "c1", "c2", 1)),
			"GET /containers/c2/logs":   reply(200, ""),
			"DELETE /containers/c2":     reply(204, ""),
		})
		s.answers["POST /containers/c2/start"] = s.start
		var made atomic.Int32
		s.answers["POST /containers/create"] = func(w http.ResponseWriter, r *http.Request) {
			reply(201, fmt.Sprintf(`{"Id":"c%d"}`, made.Add(1)))(w, r)
		}
		var out runnertest.Recorder
		result, err := r.Run(t.Context(), stubJob(t), &out)
		require.NoError(t, err)
		require.Equal(t, "c2", result.ContainerID)
		require.Equal(t, 1, s.called("DELETE /containers/c1"))
		require.Equal(t, 1, s.called("POST /containers/c2/start"))
		require.Contains(t, out.Messages(), left)
	}
}
