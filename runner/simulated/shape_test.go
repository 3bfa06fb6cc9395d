package simulated

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func decode(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var r map[string]any
	require.NoError(t, json.Unmarshal(data, &r))
	return r
}

// shape lists the keys of a JSON document in their order and the kinds of its
// values, an integer told from a number with a fraction.
func shape(t testing.TB, data []byte) []string {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var out []string
	var value func(path string)
	value = func(path string) {
		token, err := dec.Token()
		require.NoError(t, err)
		kind := fmt.Sprintf("%T", token)
		if n, ok := token.(json.Number); ok {
			kind = "integer"
			if strings.ContainsAny(n.String(), ".eE") {
				kind = "float"
			}
		}
		switch token {
		case json.Delim('{'):
			out = append(out, path+" {")
			for dec.More() {
				key, err := dec.Token()
				require.NoError(t, err)
				value(path + "." + key.(string))
			}
		case json.Delim('['):
			out = append(out, path+" [")
			for i := 0; dec.More(); i++ {
				value(fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			out = append(out, path+" "+kind)
			return
		}
		_, err = dec.Token()
		require.NoError(t, err)
	}
	value("")
	return out
}

// The two files in testdata were written by kitt 1.7.0 on the machine that
// DefaultHardware describes, with ollama and qwen2.5:7b.
func TestShapeOfARealRun(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"quick", "performance"} {
		real, err := os.ReadFile(filepath.Join("testdata", "metrics-"+suite+".json"))
		require.NoError(t, err)
		job := newJob(t, "a", "qwen2.5:7b", suite)
		job.Engine = "ollama"
		_, metrics, err := run(t, Config{}, job)
		require.NoError(t, err)
		require.Equal(t, shape(t, real), shape(t, metrics))

		want, got := decode(t, real), decode(t, metrics)
		for _, key := range []string{"kitt_version", "suite_name", "engine", "model", "passed", "total_benchmarks", "passed_count", "failed_count", "system_info"} {
			require.Equal(t, want[key], got[key], key)
		}
	}
}

// The standard suite's other half was not recorded; its shape is the protocol's
// list of fields.
func TestShapeOfAccuracy(t *testing.T) {
	t.Parallel()
	_, metrics, err := run(t, Config{}, newJob(t, "a", "8B", "standard"))
	require.NoError(t, err)
	var names []string
	for _, r := range decode(t, metrics)["results"].([]any) {
		r := r.(map[string]any)
		names = append(names, r["test_name"].(string))
		m := r["metrics"].(map[string]any)
		switch r["test_name"] {
		case "mmlu":
			require.Len(t, m, 6)
			require.Len(t, m["per_subject_accuracy"], 57)
			require.InDelta(t, 57, m["num_subjects"], 0)
			fallthrough
		case "gsm8k", "truthfulqa", "hellaswag":
			for _, key := range []string{"accuracy", "correct", "total", "error_count"} {
				require.Contains(t, m, key)
			}
		}
	}
	require.Equal(t, []string{"mmlu", "gsm8k", "truthfulqa", "hellaswag", "throughput", "latency", "memory_usage", "warmup_analysis"}, names)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"quick", "performance", "standard"} {
		job := newJob(t, "golden", "Qwen2.5-7B-Instruct", suite)
		log, metrics, err := run(t, Config{Seed: 1, Now: fixedClock}, job)
		require.NoError(t, err)
		golden(t, suite+".json", metrics)
		golden(t, suite+".log", []byte(normal(log, job)))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden-"+name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "go test -update rewrites %s", path)
}

func TestWithoutGPU(t *testing.T) {
	t.Parallel()
	_, metrics, err := run(t, Config{Hardware: Hardware{CPU: "Some CPU", Cores: 8}}, newJob(t, "a", "1.5B", "performance"))
	require.NoError(t, err)
	info := decode(t, metrics)["system_info"].(map[string]any)
	for _, key := range []string{"gpu", "cuda_version", "driver_version"} {
		require.Contains(t, info, key)
		require.Nil(t, info[key])
	}
	require.Equal(t, map[string]any{"model": "Some CPU", "cores": 8.0, "threads": 16.0}, info["cpu"])
	require.Contains(t, string(metrics), `"overall_peak_gpu_memory_gb": 0.0`)
}

func TestUnknownSuiteIsThroughput(t *testing.T) {
	t.Parallel()
	log, metrics, err := run(t, Config{}, newJob(t, "a", "8B", "nightly"))
	require.NoError(t, err)
	require.Contains(t, string(log), "Warning: no suite named 'nightly'")
	r := decode(t, metrics)
	require.Equal(t, "nightly", r["suite_name"])
	require.Len(t, r["results"], 1)
}
