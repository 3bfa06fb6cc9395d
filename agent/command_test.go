package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/heartbeat"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxModelPath+1)
	for _, tt := range []struct {
		name, kind, payload string
		want                jobs.Spec
		wantErr             string
	}{
		{
			name: "defaults", kind: TypeRunTest, payload: `{"model_path": "qwen2.5:7b"}`,
			want: jobs.Spec{Model: "qwen2.5:7b", Engine: "vllm", Suite: "quick", Benchmark: "throughput"},
		},
		{
			name: "as the server sends it", kind: TypeRunTest,
			payload: `{"benchmark_name": "throughput", "engine_mode": "docker", "engine_name": "vllm", "model_path": "/mnt/models/meta-llama/Llama-3.1-8B", "profile_id": "", "suite_name": "quick", "unheard": [1]}`,
			want:    jobs.Spec{Model: "/mnt/models/meta-llama/Llama-3.1-8B", Engine: "vllm", Suite: "quick", Mode: "docker", Benchmark: "throughput"},
		},
		{name: "everything", kind: TypeCleanupStorage, payload: `{"model_path": "__cleanup__"}`, want: jobs.Spec{}},
		{name: "one model", kind: TypeCleanupStorage, payload: `{"model_path": "a/b"}`, want: jobs.Spec{Model: "a/b"}},
		{name: "no payload", kind: TypeCleanupStorage, want: jobs.Spec{}},
		{name: "null payload", kind: TypeCleanupStorage, payload: "null", want: jobs.Spec{}},
		{name: "no model", kind: TypeRunTest, payload: `{}`, wantErr: "Invalid model_path: it is empty"},
		{name: "a flag for a model", kind: TypeRunTest, payload: `{"model_path": "--config=/etc/shadow"}`, wantErr: "would be read as a flag"},
		{name: "dots", kind: TypeRunTest, payload: `{"model_path": "/models/../etc"}`, wantErr: "leads out of its directory"},
		{name: "root", kind: TypeRunTest, payload: `{"model_path": "/"}`, wantErr: "names no model"},
		{name: "here", kind: TypeRunTest, payload: `{"model_path": "."}`, wantErr: "names no model"},
		{name: "newline", kind: TypeRunTest, payload: `{"model_path": "a\nb"}`, wantErr: "control characters"},
		{name: "too long", kind: TypeRunTest, payload: `{"model_path": "` + long + `"}`, wantErr: "at most 4096"},
		{name: "engine", kind: TypeRunTest, payload: `{"model_path": "m", "engine_name": "-x"}`, wantErr: "Invalid engine: -x"},
		{name: "suite", kind: TypeRunTest, payload: `{"model_path": "m", "suite_name": "a b"}`, wantErr: "Invalid suite: a b"},
		{name: "mode", kind: TypeRunTest, payload: `{"model_path": "m", "engine_mode": "root"}`, wantErr: "Invalid engine_mode: root"},
		{name: "number for a text", kind: TypeRunTest, payload: `{"model_path": 5}`, wantErr: "Invalid payload: model_path must be a text, not a number"},
		{name: "list for a payload", kind: TypeRunTest, payload: `[1]`, wantErr: "Invalid payload: it must be an object, not an array"},
		{name: "no JSON", kind: TypeRunTest, payload: `{`, wantErr: "Invalid payload: it is not JSON"},
		{name: "unknown", kind: "reboot", wantErr: "Unknown command type: reboot"},
		{name: "none", wantErr: "type is missing"},
		{name: "unsupported", kind: TypeRunContainer, payload: `{"image": "--privileged"}`, wantErr: "Unsupported command type: run_container"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseCommand(heartbeat.Command{ID: "c", Type: tt.kind, Payload: json.RawMessage(tt.payload)}, false)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				var bad *CommandError
				require.ErrorAs(t, err, &bad)
				return
			}
			require.NoError(t, err)
			require.Equal(t, jobs.Command{ID: "c", Type: tt.kind, Spec: tt.want}, got)
		})
	}
}

func TestOperatorsWordsAreTheProtocols(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`{"engine_name": "sglang"}`: "Invalid engine: sglang",
		`{"suite_name": "mine"}`:    "Invalid suite: mine",
	} {
		cmd := heartbeat.Command{ID: "c", Type: TypeRunTest, Payload: json.RawMessage(payload)}
		_, err := parseCommand(cmd, true)
		require.EqualError(t, err, want)
		_, err = parseCommand(cmd, false)
		require.ErrorContains(t, err, "model_path", "the server's word is kitt's to judge")
	}
}

// FuzzParseCommand looks for payloads that get past the checks with something
// that could mean more than a name to a file system or a command line.
func FuzzParseCommand(f *testing.F) {
	f.Add(TypeRunTest, []byte(`{"model_path": "/models/a", "engine_name": "vllm"}`))
	f.Add(TypeRunTest, []byte(`{"model_path": "\ud800", "suite_name": null}`))
	f.Add(TypeCleanupStorage, []byte(`{"model_path": "../.."}`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		c, err := parseCommand(heartbeat.Command{ID: "c", Type: kind, Payload: payload}, false)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		if c.Type != TypeRunTest {
			return
		}
		s := c.Spec
		for _, word := range []string{s.Model, s.Engine, s.Suite} {
			require.NotEmpty(t, word)
			require.False(t, strings.HasPrefix(word, "-"), "%q", word)
			require.NotContains(t, word, "\x00")
		}
		require.NotContains(t, strings.Split(s.Model, "/"), "..")
		require.Contains(t, []string{"", "docker", "native"}, s.Mode)
	})
}
