package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/policy"
	settings "github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
)

// profiled is a server with engine profiles.
type profiled struct {
	*agenttest.Server
	profiles map[string]settings.Profile
	away     atomic.Int32 // how often it doesn't answer first
}

func (p *profiled) EngineProfile(_ context.Context, id string) (settings.Profile, error) {
	if p.away.Add(-1) >= 0 {
		return settings.Profile{}, errors.New("no route to host")
	}
	found, ok := p.profiles[id]
	if !ok {
		return found, settings.ErrNotFound
	}
	return found, nil
}

// with queues a test with a profile, and returns its status, its error and its log.
func (p *profiled) with(t *testing.T, engine, mode, id string) (status, reason, log string) {
	t.Helper()
	payload, err := json.Marshal(map[string]string{"model_path": "/m", "engine_name": engine, "engine_mode": mode, "profile_id": id})
	require.NoError(t, err)
	test := p.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: payload})
	require.NoError(t, p.WaitEnded(within(t, time.Hour), test))
	status, reason = p.Status(test)
	return status, reason, strings.Join(p.Lines(test), "\n")
}

func TestAProfileReachesTheBenchmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &profiled{Server: &agenttest.Server{}, profiles: map[string]settings.Profile{
			"p1": {ID: "p1", Name: "long", Engine: "llama_cpp", Mode: "native", Build: json.RawMessage(`{"cuda": true}`), Runtime: json.RawMessage(`{"n_ctx": 8192}`)},
			"p2": {ID: "p2", Name: "evil", Engine: "vllm", Mode: "docker", Runtime: json.RawMessage(`{"image": "evil/image", "extra_args": ["--privileged"]}`)},
		}}
		var config string
		run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			text, err := os.ReadFile(job.Config)
			require.NoError(t, err)
			config = string(text)
			return prints(1, 0)(ctx, job, out)
		}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Policy: policy.Default(policy.Machine{Dir: "/nonexistent"})})
		defer stop()

		srv.away.Store(3) // a server that is away is waited for
		status, reason, log := srv.with(t, "llama_cpp", "", "p1")
		require.Equal(t, "completed", status, reason)
		require.JSONEq(t, `{"n_ctx": 8192}`, config)
		job := run.ran()[0]
		require.Equal(t, filepath.Join(job.ResultsDir, settings.File), job.Config)
		require.Equal(t, runner.ModeNative, job.Mode, "the test left it to the profile")
		require.Contains(t, job.Arguments(), "--config")
		require.Contains(t, log, "Waiting to start: the engine profile p1 is not available from the server: no route to host")
		require.Contains(t, log, "Engine profile long (p1): n_ctx 8192")
		require.Contains(t, log, "build_config has no effect")

		_, _, log = srv.with(t, "llama_cpp", "docker", "p1")
		require.Contains(t, log, "The profile is for engine_mode native; the test's own engine_mode docker counts")
		require.Equal(t, runner.ModeDocker, run.ran()[1].Mode)

		for _, tt := range []struct{ engine, id, want string }{
			{"vllm", "p2", "the server may not set extra_args in an engine profile; the server may not set image in an engine profile (to allow it, add to agent.yaml: policy: {profile_keys: [extra_args]})"},
			{"vllm", "p1", "is for the engine llama_cpp, and the test for vllm"},
			{"vllm", "p3", "the engine profile p3 is not on the server any more"},
		} {
			status, reason, _ := srv.with(t, tt.engine, "docker", tt.id)
			require.Equal(t, "failed", status)
			require.Contains(t, reason, tt.want)
		}
		require.Len(t, run.ran(), 2, "nothing else ran")
	})
}

func TestAProfileOfAServerWithoutAny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &play{run: prints(1, 0)}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		id := srv.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: json.RawMessage(`{"model_path":"/m","profile_id":"p1"}`)})
		require.NoError(t, srv.WaitEnded(within(t, time.Hour), id))
		_, reason := srv.Status(id)
		require.Contains(t, reason, "the test names the engine profile p1, and this agent's server has none")
		require.Empty(t, run.ran())
	})
}
