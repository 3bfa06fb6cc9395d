package docker_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestOldLogIsRemoved has a container of an older agent whose log is gone, or ends
// before what was read of it, when the agent comes back to it.
func TestOldLogIsRemoved(t *testing.T) {
	t.Parallel()
	one := frame("2026-11-23T16:16:01.500000001Z", "one\n")
	two := frame("2026-11-23T16:16:02.500000001Z", "two\n")
	for name, c := range map[string]struct {
		log, want string
		gap       bool
	}{
		"whole":   {log: one + two, want: "one\ntwo\n"},
		"removed": {log: "", want: "one\ntwo\n", gap: true},
		"cut off": {log: one, want: "one\ntwo\n", gap: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reads := 0
			_, r := newStub(t, map[string]http.HandlerFunc{
				"GET /containers/c1/logs": func(w http.ResponseWriter, _ *http.Request) {
					log := c.log
					if reads++; reads == 1 { // the one that is followed
						log = one + two
					}
					io.WriteString(w, log)
				},
				"GET /containers/c1/json": reply(200, exited(0, false)),
			})
			job := stubJob(t)
			begun(t, job)
			var out runnertest.Recorder
			_, err := r.Resume(t.Context(), job, 0, &out)
			require.NoError(t, err)
			require.Equal(t, c.want, out.Text())
			if c.gap {
				require.Contains(t, out.Messages(), "lines may be missing here: the Docker engine's log")
			} else {
				require.Empty(t, out.Messages())
			}
		})
	}
}

// TestOldContainerEndsWhileTheEngineIsAway has one whose last words nobody read.
func TestOldContainerEndsWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after time.Duration // from the moment at which the engine answers again
		gap   bool
	}{"meanwhile": {0, true}, "later": {time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, r := newStub(t, map[string]http.HandlerFunc{
				"GET /containers/c1/logs": reply(200, ""),
				"GET /containers/c1/json": once(reply(500, `{"message":"starting up"}`), func(w http.ResponseWriter, r *http.Request) {
					reply(200, `{"Id":"c1","State":{"Status":"exited","ExitCode":0,"StartedAt":"2026-11-23T16:16:01.5Z","FinishedAt":"`+
						time.Now().Add(c.after).UTC().Format(time.RFC3339Nano)+`"}}`)(w, r)
				}),
			})
			job := stubJob(t)
			begun(t, job)
			var out runnertest.Recorder
			_, err := r.Resume(t.Context(), job, 0, &out)
			require.NoError(t, err)
			if c.gap {
				require.Contains(t, out.Messages(), "lines may be missing here: the Docker engine was away")
			} else {
				require.NotContains(t, out.Messages(), "lines may be missing")
			}
		})
	}
}
