package runner

import "slices"

// The suites of `kitt run`, each with its benchmarks in the order in which it runs them
// (configs/suites of KITT 1.7).
var suites = map[string][]string{
	"quick":       {"throughput"},
	"performance": {"throughput", "latency", "memory_usage", "warmup_analysis"},
	"standard":    {"mmlu", "gsm8k", "truthfulqa", "hellaswag", "throughput", "latency", "memory_usage", "warmup_analysis"},
}

// SuiteBenchmarks returns the benchmarks that `kitt run -s suite` runs. Of a suite that
// KITT doesn't have these are those of quick, and known is false.
func SuiteBenchmarks(suite string) (benchmarks []string, known bool) {
	names, known := suites[suite]
	if !known {
		names = suites["quick"]
	}
	return slices.Clone(names), known
}
