package profile_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/fault"
)

func of(engine, runtime string) profile.Profile {
	return profile.Profile{ID: "0123456789abcdef", Name: "high-ctx", Engine: engine, Mode: "docker", Runtime: json.RawMessage(runtime)}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	allow := policy.Default(policy.Machine{}).CheckProfileKey
	for _, tt := range []struct{ engine, runtime, text, summary, err string }{
		{engine: "vllm", runtime: `{}`, text: `{}`, summary: "no settings"},
		{engine: "vllm", runtime: `null`, text: `{}`, summary: "no settings"},
		{
			engine: "llama_cpp", runtime: `{"n_ctx": 8192, "port": 8090, "mode": "native", "startup_timeout": 900, "n_batch": null}`,
			text: `{"n_ctx":8192,"port":8090,"startup_timeout":900}`, summary: "n_ctx 8192, port 8090, startup_timeout 900",
		},
		{engine: "exllamav2", runtime: `{"gpu_split": "20,20"}`, text: `{"gpu_split":"20,20"}`, summary: "gpu_split 20,20"},
		{engine: "ollama", runtime: `{"n_ctx": 4096}`, err: `the server may not set n_ctx in an engine profile`},
		{engine: "llama_cpp", runtime: `{"n_ctx": "many", "env": {"LD_PRELOAD": "/x.so"}}`, err: "the server may not set env in an engine profile; n_ctx must be a whole number"},
		{engine: "vllm", runtime: `{"python_path": "/tmp/evil"}`, err: "the server may not set python_path in an engine profile"},
		{engine: "vllm", runtime: `[1]`, err: "runtime_config must be a JSON object"},
	} {
		text, summary, err := of(tt.engine, tt.runtime).Config(tt.engine, allow)
		if tt.err != "" {
			require.ErrorContains(t, err, "the engine profile high-ctx (0123456789abcdef) can't be used: ")
			require.ErrorContains(t, err, tt.err)
			continue
		}
		require.NoError(t, err, tt.runtime)
		require.JSONEq(t, tt.text, string(text))
		require.Equal(t, "Engine profile high-ctx (0123456789abcdef): "+tt.summary, summary)
	}
	_, fix := fault.Of(func() error { _, _, err := of("vllm", `{"image": "x"}`).Config("vllm", allow); return err }())
	require.Equal(t, "to allow it, add to agent.yaml: policy: {profile_keys: [image]}", fix)

	_, _, err := of("vllm", `{}`).Config("ollama", allow)
	require.ErrorContains(t, err, "the engine profile high-ctx (0123456789abcdef) is for the engine vllm, and the test for ollama")

	text, summary, err := of("vllm", `{"image": "x", "env": {"A": "secret"}}`).Config("vllm", policy.Policy{}.CheckProfileKey)
	require.NoError(t, err)
	require.JSONEq(t, `{"image":"x","env":{"A":"secret"}}`, string(text))
	require.Equal(t, "Engine profile high-ctx (0123456789abcdef): env, image", summary, "the log shows no value that may be secret")
}

func FuzzConfig(f *testing.F) {
	f.Add("vllm", `{"port": 8000, "env": {}}`)
	f.Add("", `{"\u0000": 1}`)
	f.Fuzz(func(t *testing.T, engine, runtime string) {
		text, _, err := of(engine, runtime).Config(engine, policy.Default(policy.Machine{}).CheckProfileKey)
		if err == nil {
			require.True(t, json.Valid(text))
			require.NotContains(t, string(text), `"env"`)
		}
	})
}

func ExampleProfile_Config() {
	p := profile.Profile{ID: "1", Name: "long", Engine: "llama_cpp", Runtime: json.RawMessage(`{"n_ctx": 32768}`)}
	text, summary, err := p.Config("llama_cpp", policy.Default(policy.Machine{}).CheckProfileKey)
	fmt.Printf("%s%s %v\n", text, summary, err)
	// Output:
	// {"n_ctx":32768}
	// Engine profile long (1): n_ctx 32768 <nil>
}
