package kittapi

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kirizan/kitt-agent/runner"
)

// broken returns the rules of PROTOCOL.md, section 7, that data breaks. It is
// written from the page, not from clean.go.
func broken(data map[string]any) []string {
	var breaches []string
	bad := func(what string) { breaches = append(breaches, what) }
	number := func(v any) bool {
		f, ok := v.(float64)
		return ok && !math.IsNaN(f) && f < 9.3e18 && f > -9.3e18
	}
	for key, v := range data {
		_, text := v.(string)
		switch key {
		case "model", "engine", "suite_name", "timestamp", "kitt_version":
			if !text {
				bad(key)
			}
		case "total_benchmarks", "passed_count", "failed_count", "total_time_seconds":
			if !number(v) {
				bad(key)
			}
		case "results":
			list, ok := v.([]any)
			if !ok {
				bad(key)
			}
			for _, e := range list {
				test, ok := e.(map[string]any)
				if !ok {
					bad("element")
				}
				for k, v := range test {
					_, text := v.(string)
					_, object := v.(map[string]any)
					switch k {
					case "test_name", "test_version", "timestamp":
						if !text {
							bad(k)
						}
					case "run_number":
						if f, ok := v.(float64); !ok || f != math.Trunc(f) || !number(v) {
							bad(k)
						}
					case "metrics":
						if !object {
							bad(k)
						}
					}
				}
			}
		case "system_info":
			info, ok := v.(map[string]any)
			if v != nil && !ok {
				bad(key)
			}
			for _, k := range []string{"gpu", "cpu"} {
				part, ok := info[k].(map[string]any)
				if info[k] != nil && !ok {
					bad(k)
				}
				for _, pk := range []string{"model", "vram_gb", "count", "cores", "threads"} {
					switch part[pk].(type) {
					case map[string]any, []any:
						bad(k + "." + pk)
					}
				}
			}
		}
	}
	return breaches
}

// anything draws a JSON value, with the keys that matter among its objects'.
func anything(t *rapid.T, depth int) any {
	kinds := 6
	if depth > 3 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.SampledFrom([]float64{0, 1, 1.5, -3, 1e19, 1e300, math.NaN(), math.Inf(1)}).Draw(t, "number")
	case 3:
		return rapid.SampledFrom([]string{"", "x", "\xff", "NaN"}).Draw(t, "text")
	case 4:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "len"))
		for i := range list {
			list[i] = anything(t, depth+1)
		}
		return list
	}
	return object(t, depth+1)
}

func object(t *rapid.T, depth int) map[string]any {
	keys := []string{
		"model", "engine", "suite_name", "timestamp", "kitt_version", "passed", "total_benchmarks", "total_time_seconds",
		"results", "test_name", "test_version", "run_number", "metrics", "system_info", "gpu", "cpu", "ram_gb", "vram_gb", "count", "avg_tps", "more",
	}
	m := map[string]any{}
	for range rapid.IntRange(0, 6).Draw(t, "keys") {
		m[rapid.SampledFrom(keys).Draw(t, "key")] = anything(t, depth)
	}
	return m
}

func TestCleanResultKeepsTheRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := object(t, 0)
		clean, _ := CleanResult(data)
		text, err := encode(clean)
		require.NoError(t, err, "whatever goes in, what comes out is JSON")
		var sent map[string]any
		require.NoError(t, json.Unmarshal(text, &sent))
		require.Empty(t, broken(sent))
		again, notes := CleanResult(clean)
		require.Equal(t, clean, again, "cleaning twice changes nothing")
		require.Empty(t, notes)
	})
}

func TestRealMetricsPassUnchanged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"metrics-quick.json", "metrics-performance.json"} {
		f, err := os.Open("testdata/" + name)
		require.NoError(t, err)
		data, err := runner.ReadMetrics(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		clean, notes := CleanResult(data)
		require.Empty(t, notes)
		require.Equal(t, data, clean)
	}
}

func TestWhatIsLeftOutIsSaid(t *testing.T) {
	t.Parallel()
	clean, notes := CleanResult(map[string]any{
		"model": map[string]any{}, "timestamp": nil, "results": []any{nil, map[string]any{"metrics": nil, "run_number": 1.5}},
		"system_info": "text", "passed": "yes", "more": math.NaN(), "total_benchmarks": 1e30, "n": 5,
	})
	require.Equal(t, map[string]any{"results": []any{map[string]any{}}, "passed": "yes", "more": nil, "n": 5.0}, clean)
	require.ElementsMatch(t, []string{
		"model is left out: it is not a text",
		"total_benchmarks is left out: it is not a number of at most 64 bits",
		"1 of results are left out: they are not objects",
		"results[0].run_number is left out: it is not a whole number of at most 64 bits",
		"system_info is left out: it is not an object",
	}, notes)
}
