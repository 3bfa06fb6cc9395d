package engine_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/runner/engine"
)

func spec(t testing.TB, name string) engine.Spec {
	t.Helper()
	s, ok := engine.Lookup(name)
	require.True(t, ok, name)
	return s
}

func TestCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		engine, config, model string
		args, env             []string
	}{
		{engine: "llama_cpp", config: ``, args: []string{"--port", "8081", "--host", "127.0.0.1"}},
		{engine: "llama_cpp", config: `null`, model: "/m.gguf", args: []string{"--port", "8081", "--host", "127.0.0.1", "--model", "/m.gguf"}},
		{
			engine: "llama_cpp", config: `{"port": 8090, "n_ctx": 4096, "n_gpu_layers": -1, "n_batch": 512, "threads": 8, "flash_attn": true}`,
			args: []string{"--port", "8090", "--host", "127.0.0.1", "--n-gpu-layers", "-1", "--ctx-size", "4096", "--batch-size", "512", "--threads", "8", "--flash-attn"},
		},
		{engine: "llama_cpp", config: `{"flash_attn": false, "n_ctx": null}`, args: []string{"--port", "8081", "--host", "127.0.0.1"}},
		{
			engine: "vllm", model: "/m", config: `{"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9, "max_model_len": 8192.0, "dtype": "bfloat16", "quantization": "awq_marlin"}`,
			args: []string{"--port", "8000", "--host", "127.0.0.1", "--model", "/m", "--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.9",
				"--max-model-len", "8192", "--dtype", "bfloat16", "--quantization", "awq_marlin"},
		},
		{
			engine: "ollama", model: "ignored", config: `{"OLLAMA_NUM_PARALLEL": 4, "ollama_gpu_overhead": 1073741824}`, args: []string{"serve"},
			env: []string{"OLLAMA_NUM_PARALLEL=4", "OLLAMA_GPU_OVERHEAD=1073741824", "OLLAMA_HOST=127.0.0.1:11434"},
		},
	} {
		s := spec(t, tt.engine)
		settings, err := s.Parse(json.RawMessage(tt.config))
		require.NoError(t, err, tt.config)
		args, env := s.Command(settings, "127.0.0.1", tt.model)
		require.Equal(t, tt.args, args)
		require.Equal(t, tt.env, env)
	}
}

func TestWhatRuntimeConfigMayNotHold(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`[1]`:                             "runtime_config must be a JSON object",
		`"x"`:                             "runtime_config must be a JSON object",
		`{"port": 80}`:                    "port is 80, not from 1024 to 65535",
		`{"port": 8081.5}`:                "port is 8081.5, not a whole number",
		`{"port": "8081"}`:                "port must be a whole number from 1024 to 65535",
		`{"n_ctx": 1e300}`:                "n_ctx is 1e300, not from 0 to 16777216",
		`{"n_ctx": {}}`:                   "n_ctx must be a whole number",
		`{"flash_attn": 1}`:               "flash_attn must be true or false",
		`{"extra_args": ["--rpc", "x"]}`:  `"extra_args" is not one of port, n_gpu_layers, n_ctx, n_batch, threads, flash_attn`,
		`{"host": "0.0.0.0", "port": 80}`: `port is 80, not from 1024 to 65535; "host" is not one of port`,
	} {
		_, err := spec(t, "llama_cpp").Parse(json.RawMessage(config))
		require.ErrorContains(t, err, want, config)
		class, _ := fault.Of(err)
		require.Equal(t, engine.ClassConfig, class)
	}
	for config, want := range map[string]string{
		`{"dtype": "--trust-remote-code"}`:  "dtype must be one of auto, half",
		`{"quantization": "a b"}`:           "quantization must be a word",
		`{"quantization": "--x"}`:           "quantization must be a word",
		`{"gpu_memory_utilization": 1.5}`:   "gpu_memory_utilization is 1.5, not from 0.01 to 1",
		`{"gpu_memory_utilization": "0.9"}`: "gpu_memory_utilization must be a number from 0.01 to 1",
	} {
		_, err := spec(t, "vllm").Parse(json.RawMessage(config))
		require.ErrorContains(t, err, want, config)
	}
	_, err := spec(t, "vllm").Parse(json.RawMessage(`{"a": "` + strings.Repeat("x", 64<<10) + `"}`))
	require.ErrorContains(t, err, "at most 65536 are allowed")
}

// Whatever a config holds, a value is one argument, and none looks like a flag that the
// engine's data doesn't have.
func FuzzParse(f *testing.F) {
	f.Add(`{"port": 8090, "n_ctx": 4096}`)
	f.Add(`{"quantization": "--x"}`)
	f.Add(`{"flash_attn": true, "flash_attn": 5}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, config string) {
		for _, s := range engine.Specs() {
			settings, err := s.Parse(json.RawMessage(config))
			if err != nil {
				continue
			}
			require.GreaterOrEqual(t, settings.Port, 0)
			flags := map[string]bool{}
			for _, o := range s.Options {
				flags[o.Flag] = true
			}
			for _, arg := range settings.Args {
				require.True(t, flags[arg] || !strings.HasPrefix(arg, "--"), arg)
				require.NotContains(t, arg, "\x00")
			}
		}
	})
}
