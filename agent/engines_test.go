package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner"
	native "github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/runner/engine/enginetest"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// engineCommand queues an engine command as a server does, and returns its test.
func engineCommand(srv *agenttest.Server, kind, payload string) string {
	return srv.Queue(heartbeat.Command{Type: kind, Payload: json.RawMessage(payload)})
}

// endsAs waits until a test has ended and checks how.
func endsAs(t *testing.T, srv *agenttest.Server, test, status string) (reason string) {
	t.Helper()
	require.NoError(t, srv.WaitEnded(within(t, time.Hour), test))
	got, reason := srv.Status(test)
	require.Equal(t, status, got, reason)
	return reason
}

// running reports whether the last heartbeat said that an engine runs.
func running(srv *agenttest.Server, name string) bool {
	beats := srv.Beats()
	for _, e := range beats[len(beats)-1].Engines {
		if e.Engine == name {
			return e.Running
		}
	}
	return false
}

// An engine is installed, started and stopped at the server's word. Each command is
// reported, with its log, and the engine holds its model for as long as it runs.
func TestAnEngineFromInstallToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, models := &agenttest.Server{}, &storagetest.Fake{}
		engines := &enginetest.Fake{Lines: []string{"loading", "listening"}, Delay: 20 * time.Second, InstallDelay: time.Hour / 2}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Engines: engines, Storage: models})
		defer stop()

		id := engineCommand(srv, agent.TypeInstallEngine, `{"engine_name":"llama_cpp"}`)
		endsAs(t, srv, id, "completed")
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Equal(t, []string{"Agent installing engine: llama_cpp", "installing llama_cpp", "Installation of the engine completed"}, srv.Lines(id))

		id = engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"llama_cpp","model_path":"/models/m.gguf","runtime_config":{"port":8090},"profile_id":"{\"port\": 8090}"}`)
		endsAs(t, srv, id, "completed")
		require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, srv.History(id))
		require.Equal(t, []string{
			"Agent starting engine: llama_cpp", "Model: /models/m.gguf", `runtime_config: {"port":8090}`, "loading", "listening", "Start of the engine completed",
		}, srv.Lines(id))
		time.Sleep(time.Minute)
		require.True(t, running(srv, "llama_cpp"))
		require.Equal(t, []string{"/models/m.gguf"}, models.Held())

		again := engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"ollama","runtime_config":{}}`)
		require.Contains(t, endsAs(t, srv, again, "failed"), "llama_cpp runs already, on port 8081 (kitt-agent engines stop llama_cpp)")

		id = engineCommand(srv, agent.TypeStopEngine, `{"engine_name":"llama_cpp"}`)
		endsAs(t, srv, id, "completed")
		require.Equal(t, []string{"Agent stopping engine: llama_cpp", "llama_cpp stopped", "Stop of the engine completed"}, srv.Lines(id))
		time.Sleep(time.Minute)
		require.False(t, running(srv, "llama_cpp"))
		require.Empty(t, models.Held())

		id = engineCommand(srv, agent.TypeStopEngine, `{"engine_name":"llama_cpp"}`)
		endsAs(t, srv, id, "completed")
		require.Contains(t, srv.Lines(id), "llama_cpp is not running")
		require.Equal(t, 1, engines.Began())
	})
}

func TestEngineCommandsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, engines := &agenttest.Server{}, &enginetest.Fake{}
		p := policy.Default(policy.Machine{Dir: "/nonexistent"})
		p.StartEngines = []string{"llama_cpp"}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Engines: engines, Policy: p})
		defer stop()
		for _, tt := range []struct{ kind, payload, want string }{
			{agent.TypeInstallEngine, `{"engine_name":"llama_cpp"}`, "engines are installed only where the machine's owner allows it"},
			{agent.TypeStartEngine, `{"engine_name":"vllm"}`, "the engine vllm may not be started or stopped (to allow it, add to agent.yaml: policy: {engines: {start: [llama_cpp, vllm]}})"},
			{agent.TypeStopEngine, `{"engine_name":"vllm"}`, "the engine vllm may not be started or stopped"},
			{agent.TypeStartEngine, `{"engine_name":"llama_cpp","runtime_config":{"host":"0.0.0.0"}}`, `"host" is not one of port, n_gpu_layers`},
			{agent.TypeStartEngine, `{"engine_name":"llama_cpp","runtime_config":[1]}`, "runtime_config must be a JSON object"},
			{agent.TypeStartEngine, `{"engine_name":"llama_cpp","model_path":"../../etc"}`, "Invalid model_path"},
			{agent.TypeStartEngine, `{"engine_name":"--privileged"}`, "Invalid engine: --privileged"},
			{agent.TypeStartEngine, `{"engine_name":"nope"}`, `there is no engine "nope" that an agent can start (choose one of `},
			{agent.TypeStopEngine, `{"engine_name":"mlx"}`, `there is no engine "mlx" that an agent can start (choose one of `},
			{agent.TypeInstallEngine, `{"engine_name":"nope"}`, `there is no engine "nope" that an agent can start (choose one of `},
			{agent.TypeInstallEngine, `{"engine_name":"vllm"}`, "vllm can't be installed: it is a Python package, which an agent does not install; install it into ~/.kitt/vllm-venv with pip"},
			{agent.TypeStopEngine, `{}`, "Invalid engine: "},
		} {
			id := engineCommand(srv, tt.kind, tt.payload)
			require.Contains(t, endsAs(t, srv, id, "failed"), tt.want)
			lines := srv.Lines(id)
			require.NotContains(t, lines[len(lines)-1], "Benchmark")
		}
		require.Empty(t, engines.Calls())
	})
}

// A stop does not wait behind a benchmark, and a start does.
func TestAStopDoesNotWaitForABenchmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, engines := &agenttest.Server{}, &enginetest.Fake{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 2*time.Hour)}, Engines: engines})
		defer stop()
		benchmark := srv.Launch("m")
		time.Sleep(5 * time.Minute)
		starts := engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"ollama"}`)
		stops := engineCommand(srv, agent.TypeStopEngine, `{"engine_name":"ollama"}`)
		endsAs(t, srv, stops, "completed")
		require.Equal(t, []string{"stop ollama"}, engines.Calls())
		require.NoError(t, srv.WaitEnded(within(t, 4*time.Hour), benchmark))
		endsAs(t, srv, starts, "completed")
		require.Equal(t, []string{"stop ollama", "start ollama"}, engines.Calls())
	})
}

// A cancelled start leaves nothing behind, and neither does a failed one.
func TestAStartThatIsCancelledOrFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, models, engines := &agenttest.Server{}, &storagetest.Fake{}, &enginetest.Fake{Delay: time.Hour}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Engines: engines, Storage: models})
		defer stop()
		id := engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"vllm","model_path":"/m"}`)
		require.NoError(t, srv.Wait(within(t, time.Hour), id, "running"))
		require.NoError(t, a.Cancel(t.Context(), id, "user"))
		require.Equal(t, "Cancelled by user", endsAs(t, srv, id, "failed"))
		require.Empty(t, models.Held())

		engines.StartErr = errors.New("vllm ended before it was healthy: Exit 1")
		id = engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"vllm","model_path":"/m"}`)
		require.NoError(t, srv.WaitEnded(within(t, 2*time.Hour), id))
		require.Contains(t, endsAs(t, srv, id, "failed"), "Exit 1")
		require.Empty(t, models.Held())
		found, err := engines.Detect(t.Context())
		require.NoError(t, err)
		require.False(t, slices.ContainsFunc(found, func(s native.Status) bool { return s.Running }))
	})
}

// An agent that is restarted goes on with a start where it was, and keeps the engines
// that run, with their models.
func TestEnginesOutliveTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		srv, models, engines := &agenttest.Server{}, &storagetest.Fake{}, &enginetest.Fake{Lines: []string{"loading"}, Delay: 10 * time.Minute}
		cfg := agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}, Engines: engines, Storage: models, Dir: dir}
		_, stop := start(t, cfg)
		id := engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"vllm","model_path":"/m"}`)
		require.NoError(t, srv.Wait(within(t, time.Hour), id, "running"))
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, []string{"/m"}, models.Held())

		_, stop = start(t, cfg)
		endsAs(t, srv, id, "completed")
		require.Equal(t, 1, engines.Began())
		require.Equal(t, 1, strings.Count(strings.Join(srv.Lines(id), "\n"), "loading"))
		stop()

		a, stop := start(t, cfg)
		defer stop()
		<-a.Ready()
		synctest.Wait()
		require.Contains(t, models.Held(), "/m")
		engines.End("vllm", errors.New("Exit 137"))
		time.Sleep(time.Minute)
		require.False(t, running(srv, "vllm"))
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "The engine vllm ended by itself")

		endsAs(t, srv, engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"vllm"}`), "completed")
		require.NotContains(t, strings.Join(a.Status().Warnings, "\n"), "The engine vllm ended by itself")
	})
}

func TestEngineCommandsOverTheAPI(t *testing.T) {
	t.Parallel()
	engines := &enginetest.Fake{}
	a, url := serveAgent(t, agent.Config{Engines: engines, Runner: &play{run: func(ctx context.Context, _ runner.Job, _ runner.Output) (runner.Result, error) {
		<-ctx.Done()
		return runner.Result{}, context.Cause(ctx)
	}}})
	post := func(body string) (int, map[string]any) {
		status, text := call(t, "POST", url+"/api/commands", apiToken, body)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(text, &answer))
		return status, answer
	}
	status, answer := post(`{"type":"stop_engine","payload":{"engine_name":"vllm"}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, answer["success"])
	require.Equal(t, "", answer["error"])
	status, answer = post(`{"type":"stop_engine","payload":{"engine_name":""}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, false, answer["success"])
	require.Equal(t, "Invalid engine: ", answer["error"])
	status, answer = post(`{"type":"start_engine","command_id":"s1","payload":{"engine_name":"vllm","runtime_config":{"n_ctx":1}}}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer["error"], `"n_ctx" is not one of port, tensor_parallel_size`)
	status, answer = post(`{"type":"start_engine","command_id":"s1","payload":{"engine_name":"vllm"}}`)
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, map[string]any{"accepted": true, "command_id": "s1"}, answer)
	require.Eventually(t, func() bool { return a.Jobs()[1].State == agent.StateCompleted }, 10*time.Second, 5*time.Millisecond)
	status, answer = post(`{"type":"engine_status","payload":{"engine_name":"vllm"}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, answer["running"])
	status, answer = post(`{"type":"stop_engine","payload":{"engine_name":"vllm"}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, answer["success"])
	_, text := call(t, "GET", url+"/api/engines", apiToken, "")
	require.NotContains(t, string(text), `"running":true`)
	status, answer = post(`{"type":"install_engine","payload":{"engine_name":"vllm"}}`)
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, true, answer["accepted"])
}

// A benchmark and a running engine never share the GPUs.
func TestABenchmarkThatNeedsTheGPUsOfAnEngine(t *testing.T) {
	startLlama := func(t *testing.T, srv *agenttest.Server) {
		t.Helper()
		endsAs(t, srv, engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"llama_cpp","model_path":"/models/m.gguf","runtime_config":{"port":8090}}`), "completed")
	}
	t.Run("fail", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv, run := &agenttest.Server{}, &play{run: prints(1, 0)}
			_, stop := start(t, agent.Config{Server: srv, Runner: run, Engines: &enginetest.Fake{}})
			defer stop()
			startLlama(t, srv)
			reason := endsAs(t, srv, srv.Launch("m"), "failed")
			require.Contains(t, reason, "the engine llama_cpp (PID 4242, port 8081) holds the GPUs (kitt-agent engines stop llama_cpp, or set engines.on_conflict in agent.yaml)")
			require.Empty(t, run.ran())
		})
	})
	t.Run("wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv, run := &agenttest.Server{}, &play{run: prints(1, 0)}
			_, stop := start(t, agent.Config{Server: srv, Runner: run, Engines: &enginetest.Fake{}, OnConflict: agent.EngineConflict{Wait: 30 * time.Minute}})
			defer stop()
			startLlama(t, srv)
			benchmark := srv.Launch("m")
			time.Sleep(10 * time.Minute)
			require.Empty(t, run.ran())
			endsAs(t, srv, engineCommand(srv, agent.TypeStopEngine, `{"engine_name":"llama_cpp"}`), "completed")
			endsAs(t, srv, benchmark, "completed")
			require.Contains(t, strings.Join(srv.Lines(benchmark), "\n"), "Waiting to start: the engine llama_cpp (PID 4242, port 8081) holds the GPUs")

			startLlama(t, srv)
			begun := time.Now()
			require.Contains(t, endsAs(t, srv, srv.Launch("m"), "failed"), "holds the GPUs after a wait of 30m0s")
			require.InDelta(t, 30, time.Since(begun).Minutes(), 2)
		})
	})
	t.Run("stop and restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv, engines, dir := &agenttest.Server{}, &enginetest.Fake{}, t.TempDir()
			run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
				found, err := engines.Detect(ctx)
				require.NoError(t, err)
				require.False(t, slices.ContainsFunc(found, func(s native.Status) bool { return s.Running }))
				return prints(1, time.Minute)(ctx, job, out)
			}}
			cfg := agent.Config{Server: srv, Runner: run, Engines: engines, Dir: dir, OnConflict: agent.EngineConflict{Restart: true}}
			_, stop := start(t, cfg)
			startLlama(t, srv)
			first, second := srv.Launch("m"), srv.Launch("m2")
			endsAs(t, srv, first, "completed")
			endsAs(t, srv, second, "completed")
			require.Contains(t, strings.Join(srv.Lines(first), "\n"), "The engine llama_cpp holds the GPUs: it is stopped, and started again after the benchmark")
			time.Sleep(time.Minute)
			require.True(t, running(srv, "llama_cpp"))
			found, err := engines.Detect(t.Context())
			require.NoError(t, err)
			for _, s := range found {
				if s.Name == "llama_cpp" {
					require.Equal(t, "/models/m.gguf", s.Launch.Model)
					require.JSONEq(t, `{"port":8090}`, string(s.Launch.Config))
				}
			}

			// An agent that stops meanwhile leaves it to the next one.
			third := srv.Launch("m3")
			require.NoError(t, srv.Wait(within(t, time.Hour), third, "running"))
			time.Sleep(time.Second)
			stop()
			began := engines.Began()
			_, stop = start(t, cfg)
			defer stop()
			time.Sleep(5 * time.Minute)
			require.Equal(t, began+1, engines.Began())
			require.True(t, running(srv, "llama_cpp"))
		})
	})
}

// TestAnEngineStartsAlone has an engine wait for the benchmarks on a machine where several
// run at once, each with GPUs of its own.
func TestAnEngineStartsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, engines := &agenttest.Server{}, &enginetest.Fake{}
		a, stop := start(t, agent.Config{
			Server: srv, Runner: &play{run: hangs}, Engines: engines,
			Detector: hwdetecttest.NewFake(eightGPUs(t)), GPUSets: agent.GPUSets{PerJob: 1},
		})
		defer stop()
		time.Sleep(time.Minute)
		submit(t, a, "a", false)
		time.Sleep(time.Minute)
		id := engineCommand(srv, agent.TypeStartEngine, `{"engine_name":"llama_cpp","model_path":"/models/m.gguf"}`)
		time.Sleep(2 * time.Minute)
		require.Zero(t, engines.Began(), "the benchmark has its GPUs to itself")
		require.NoError(t, a.Cancel(t.Context(), "a", "user"))
		endsAs(t, srv, id, "completed")
		require.Equal(t, 1, engines.Began())
	})
}
