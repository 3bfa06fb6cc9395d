package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// An emerging is a container that the engine is creating for a program that was
// killed: the list has it from the look unlisted+1 on, and any other call finds it
// only after it was inspected hidden times without success.
type emerging struct {
	unlisted, hidden int
	fails            bool // the creation fails when it was hidden for long enough

	mu      sync.Mutex
	state   string // "" while the engine finds no container
	removed bool
}

// answers returns those of an engine with the container.
func (e *emerging) answers() map[string]http.HandlerFunc {
	const missing = `{"message":"No such container: c1"}`
	// found wraps the answer of a call that needs the container to be there.
	found := func(status int, do func()) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.state == "" || e.removed {
				reply(404, missing)(w, r)
				return
			}
			do()
			reply(status, "")(w, r)
		}
	}
	return map[string]http.HandlerFunc{
		"GET /containers/json": func(w http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.unlisted > 0 || e.removed || e.fails && e.hidden <= 0 {
				e.unlisted--
				reply(200, `[]`)(w, r)
				return
			}
			reply(200, `[{"Id":"c1","Names":["/kitt-run-job-1"],"State":"created"}]`)(w, r)
		},
		"GET /containers/c1/json": func(w http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.hidden--; e.hidden >= 0 || e.fails || e.removed {
				reply(404, missing)(w, r)
				return
			}
			if e.state == "" {
				e.state = "created"
			}
			reply(200, fmt.Sprintf(`{"Id":"c1","State":{"Status":%q}}`, e.state))(w, r)
		},
		"POST /containers/c1/start": found(204, func() { e.state = "exited" }),
		"POST /containers/c1/stop":  found(304, func() {}),
		"GET /containers/c1/logs":   found(200, func() {}),
		"DELETE /containers/c1":     found(204, func() { e.removed = true }),
	}
}

// intended notes down a run as Run does before it asks the engine for a container.
func intended(t *testing.T, job runner.Job) {
	require.NoError(t, os.MkdirAll(filepath.Join(job.Dir, "docker"), 0o700))
	text := fmt.Sprintf(`{"version":1,"job":"job-1","image":"sha256:1","at":%q}`, time.Now().UTC().Format(time.RFC3339Nano))
	require.NoError(t, os.WriteFile(filepath.Join(job.Dir, "docker", "run.json"), []byte(text), 0o600))
}

// TestResumeWaitsForTheContainerBeingCreated begins while the engine lists the
// container and can't find it yet.
func TestResumeWaitsForTheContainerBeingCreated(t *testing.T) {
	t.Parallel()
	e := &emerging{hidden: 3}
	s, r := newStub(t, e.answers())
	job := stubJob(t)
	intended(t, job)
	result, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, "c1", result.ContainerID)
	require.Equal(t, 1, s.called("POST /containers/c1/start"))
	require.True(t, e.removed)
}

// TestRunWaitsForTheContainerBeingCreated finds it in the list between its own
// Resume, which saw nothing, and its own creation.
func TestRunWaitsForTheContainerBeingCreated(t *testing.T) {
	t.Parallel()
	e := &emerging{unlisted: 1, hidden: 3}
	s, r := newStub(t, e.answers())
	job := stubJob(t)
	intended(t, job)
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
	_, err = r.Run(t.Context(), job, &runnertest.Recorder{})
	require.NoError(t, err)
	require.Zero(t, s.called("POST /containers/create"))
	require.True(t, e.removed)
}

// TestResumeOfACreationThatFails has the engine give up on the container: the
// run was never started, so it may be run.
func TestResumeOfACreationThatFails(t *testing.T) {
	t.Parallel()
	_, r := newStub(t, (&emerging{hidden: 2, fails: true}).answers())
	job := stubJob(t)
	intended(t, job)
	_, err := r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

// TestStopOfAContainerBeingCreated resumes a run that was to be stopped. No
// container may be left, however late the engine makes it.
func TestStopOfAContainerBeingCreated(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*emerging{
		"listed":   {hidden: 3},
		"unlisted": {unlisted: 3, hidden: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newStub(t, e.answers())
			job := stubJob(t)
			intended(t, job)
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("stopped by a test")
			cancel(cause)
			_, err := r.Resume(ctx, job, 0, &runnertest.Recorder{})
			require.Equal(t, cause, err)
			require.True(t, e.removed)
			require.Zero(t, s.called("POST /containers/c1/start"))
		})
	}
}

// TestStopWhileCreating stops a run while the engine creates its container. One
// that is detached from doesn't wait for that.
func TestStopWhileCreating(t *testing.T) {
	t.Parallel()
	for cause, removed := range map[error]int{runner.ErrDetach: 0, errors.New("stopped by a test"): 1} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s, r := newStub(t, map[string]http.HandlerFunc{
				"POST /containers/create": func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't see that the caller goes
					cancel(cause)
					if errors.Is(cause, runner.ErrDetach) {
						<-r.Context().Done()
						return
					}
					reply(201, `{"Id":"c1"}`)(w, r)
				},
			})
			_, err := r.Run(ctx, stubJob(t), &runnertest.Recorder{})
			require.ErrorIs(t, err, cause)
			require.Equal(t, removed, s.called("DELETE /containers/c1"))
			require.Zero(t, s.called("POST /containers/c1/start"))
		})
	}
}

// TestCreatedMeanwhile has the engine make the container that a killed program
// had asked for, just after the next one has found that there is none.
func TestCreatedMeanwhile(t *testing.T) {
	t.Parallel()
	mine := fmt.Sprintf(`{"Id":"c1","Config":{"Labels":{%q:"job-1",%q:"me"}},"State":{"Status":"exited"}}`,
		docker.LabelCommand, docker.LabelOwner)
	_, server := newStubServer(t, map[string]http.HandlerFunc{
		"POST /containers/create":             reply(409, `{"message":"the name is in use"}`),
		"GET /containers/kitt-run-job-1/json": once(reply(404, `{"message":"not there yet"}`), reply(200, mine)),
	})
	r := newRunner(t, docker.Config{Host: server, DefaultImage: "kitt:latest", Owner: "me", Timeout: 5 * time.Second})
	result, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, "c1", result.ContainerID)

	r = newRunner(t, docker.Config{Host: server, DefaultImage: "kitt:latest", Owner: "another", Timeout: 5 * time.Second})
	_, err = r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.ErrorContains(t, err, "every name for it is taken")
}

// TestNameIsFreedAgain has the engine give up on the container that a killed
// program had asked for, which frees its name.
func TestNameIsFreedAgain(t *testing.T) {
	t.Parallel()
	s, r := newStub(t, map[string]http.HandlerFunc{
		"POST /containers/create": once(reply(409, `{"message":"the name is in use"}`), reply(201, `{"Id":"c1"}`)),
	})
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.NoError(t, err)
	require.Equal(t, 2, s.called("POST /containers/create"))
}

// TestNameIsNeverFreed has a name that is taken and a container that never comes.
func TestNameIsNeverFreed(t *testing.T) {
	t.Parallel()
	_, server := newStubServer(t, map[string]http.HandlerFunc{
		"POST /containers/create": reply(409, `{"message":"the name is in use"}`),
	})
	r := newRunner(t, docker.Config{Host: server, DefaultImage: "kitt:latest", Timeout: 100 * time.Millisecond})
	_, err := r.Run(t.Context(), stubJob(t), &runnertest.Recorder{})
	require.ErrorContains(t, err, "the name kitt-run-job-1 is taken, and no container has it")
}
