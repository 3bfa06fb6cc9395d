package results

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

func readFile(t *testing.T, name string) map[string]any {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	require.NoError(t, err)
	defer f.Close()
	data, err := runner.ReadMetrics(f)
	require.NoError(t, err)
	return data
}

// A suite of KITT 1.7, as it was recorded.
func TestMetricsOfKITT(t *testing.T) {
	t.Parallel()
	data := readFile(t, "kitt-performance.json")
	metrics, missing := readMetrics(data)
	require.Empty(t, missing)
	got := map[string]Metric{}
	for _, m := range metrics {
		got[m.Name] = m
	}
	require.Equal(t, Metric{Name: "throughput.avg_tps", Value: 100, Better: Higher, Repetitions: 1}, got["throughput.avg_tps"])
	require.Equal(t, Metric{Name: "latency.ttft_ms.p50", Value: 12, Better: Lower, Repetitions: 1}, got["latency.ttft_ms.p50"])
	require.Equal(t, Metric{Name: "memory_usage.per_prompt_peak_gb.short", Repetitions: 1}, got["memory_usage.per_prompt_peak_gb.short"])
	require.Equal(t, Lower, got["total_time_seconds"].Better)
	require.NotContains(t, got, "passed_count")
	require.NotContains(t, got, "system_info.ram_gb")
	require.Equal(t, "throughput.avg_tps", headline(metrics).Name)
	require.Equal(t, 200.0, *tokens(data))
}

// What KITT's benchmarks write when something is missing, repeated or nested.
func TestOddMetrics(t *testing.T) {
	t.Parallel()
	data := readFile(t, "kitt-odd.json")
	metrics, missing := readMetrics(data)
	require.Equal(t, []string{"latency.per_token_ms.avg", "unnamed.avg_tps", "warmup_analysis.stabilization_iteration"}, missing)
	type figure struct {
		value  float64
		n      int
		better Direction
	}
	got := map[string]figure{}
	for _, m := range metrics {
		got[m.Name] = figure{m.Value, m.Repetitions, m.Better}
	}
	require.Equal(t, map[string]figure{
		"throughput.avg_tps":                            {105, 2, Higher}, // the median of those that there are
		"throughput.total_tokens_generated":             {200, 3, ""},
		"latency.ttft_ms.avg":                           {12, 1, Lower},
		"latency.ttft_ms.p50":                           {11.5, 1, Lower},
		"latency.ttft_ms.std_dev":                       {0, 1, ""},
		"warmup_analysis.latency_reduction_percent":     {-5.9, 1, Higher},
		"batch_inference.optimal_concurrency":           {8, 1, ""},
		"batch_inference.throughput_at_1":               {90, 1, Higher},
		"batch_inference.throughput_at_8":               {600, 1, Higher},
		"batch_inference.latency_at_8":                  {14, 1, Lower},
		"long_context.overall_accuracy":                 {0.9, 1, Higher},
		"long_context.accuracy_by_context_length.4096":  {1, 1, Higher},
		"long_context.accuracy_by_context_length.32768": {0.8, 1, Higher},
		"speculative.baseline_avg_tps":                  {50, 1, Higher},
		"speculative.speculative_avg_tps":               {80, 1, Higher},
		"speculative.speedup_ratio":                     {1.6, 1, Higher},
		"speculative.output_match_rate":                 {1, 1, Higher},
		"tensor_parallel.tps_tp1":                       {50, 1, Higher},
		"tensor_parallel.scaling_efficiency_tp2":        {92.1, 1, Higher},
		"tensor_parallel.communication_overhead_pct":    {7.9, 1, Lower},
		"mmlu.accuracy":                                 {0.71, 1, Higher},
		"mmlu.by_subject.anatomy.accuracy":              {0.5, 1, Higher},
		"mmlu.by_subject.anatomy.total":                 {10, 1, ""},
		"total_time_seconds":                            {912.5, 1, Lower},
	}, got)
	require.Equal(t, 600.0, *tokens(data))
}

func TestMetricsOfOthers(t *testing.T) {
	t.Parallel()
	metrics, missing := readMetrics(map[string]any{"tokens_per_second": 12.0, "latency": map[string]any{"p99_ms": 3.0}, "note": "x", "error": nil, "huge": 1e300})
	require.Equal(t, []string{"huge"}, missing)
	require.Equal(t, []Metric{
		{Name: "latency.p99_ms", Value: 3, Better: Lower, Repetitions: 1},
		{Name: "tokens_per_second", Value: 12, Better: Higher, Repetitions: 1},
	}, metrics)
	require.Equal(t, "tokens_per_second", headline(metrics).Name)
	metrics, missing = readMetrics(nil)
	require.Empty(t, metrics)
	require.Empty(t, missing)
	require.Nil(t, headline(nil))
	require.Nil(t, tokens(map[string]any{"results": "none"}))
}

// What a hostile benchmark writes is bounded.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	deep := map[string]any{"end": 1.0}
	for range 50 {
		deep = map[string]any{"\x1b[2J": deep}
	}
	many := map[string]any{"deep": deep, "nan": math.NaN()}
	for i := range 5000 {
		many[string(rune('a'+i%26))+string(make([]byte, i%300))+string(rune(0x4e00+i))] = 1.0
	}
	metrics, missing := readMetrics(many)
	require.LessOrEqual(t, len(metrics)+len(missing), maxMetrics)
	for _, m := range metrics {
		require.LessOrEqual(t, len([]rune(m.Name)), maxMetricName+1)
		require.NotContains(t, m.Name, "\x1b")
	}
}

// A run that measured nothing has a list without elements in JSON, not null.
func TestNoMetricsInJSON(t *testing.T) {
	t.Parallel()
	metrics, _ := readMetrics(nil)
	text, err := json.Marshal(Run{Metrics: metrics})
	require.NoError(t, err)
	require.Contains(t, string(text), `"metrics":[]`)
}
