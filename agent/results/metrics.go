package results

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Direction says which values of a metric are better.
type Direction string

// The directions. The empty one is not known.
const (
	Higher Direction = "higher"
	Lower  Direction = "lower"
)

// A Metric is one figure that a run measured.
type Metric struct {
	Name   string    `json:"name"` // such as throughput.avg_tps or latency.ttft_ms.p50
	Value  float64   `json:"value"`
	Better Direction `json:"better,omitempty"`

	// Repetitions is how often the benchmark was repeated within the run. Value is
	// their median: they share an engine and a warm-up, so that they say less than as
	// many runs.
	Repetitions int `json:"repetitions"`
}

// Limits of the metrics of one run.
const (
	maxMetrics    = 2000
	maxMetricName = 200 // characters
	maxDepth      = 16
	maxValue      = 1e100 // beyond it, squares and percentages are no numbers any more
)

// notMetrics are keys of result data that hold no measurements.
var notMetrics = map[string]bool{
	"agent": true, "integrity": true, "system_info": true, "results": true,
	"total_benchmarks": true, "passed_count": true, "failed_count": true,
}

// readMetrics returns the numbers in result data, and the names of those that are null.
// KITT has a list of results, each with a name and metrics; other programs may write
// metrics at the top. Lists within metrics are raw values and are left out.
func readMetrics(data map[string]any) (metrics []Metric, missing []string) {
	metrics = []Metric{} // in JSON a list without elements, not null
	c := collector{values: map[string][]float64{}, null: map[string]bool{}}
	for key, value := range data {
		if !notMetrics[key] && value != nil {
			c.add(key, value, 0)
		}
	}
	list, _ := data["results"].([]any)
	for _, element := range list {
		result, _ := element.(map[string]any)
		name, _ := result["test_name"].(string)
		if inner, ok := result["metrics"].(map[string]any); ok {
			c.add(cmp.Or(name, "unnamed"), inner, 0)
		}
	}
	for name, values := range c.values {
		metrics = append(metrics, Metric{Name: name, Value: median(values), Repetitions: len(values), Better: direction(name)})
	}
	slices.SortFunc(metrics, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	for name := range c.null {
		if c.values[name] == nil {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return metrics, missing
}

type collector struct {
	values map[string][]float64
	null   map[string]bool
}

// add adds the numbers in value under name.
func (c collector) add(name string, value any, depth int) {
	name = base.Printable(name, maxMetricName)
	if depth > maxDepth || len(c.values)+len(c.null) >= maxMetrics {
		return
	}
	switch v := value.(type) {
	case nil:
		c.null[name] = true
	case float64:
		if !(math.Abs(v) <= maxValue) {
			c.null[name] = true
			return
		}
		c.values[name] = append(c.values[name], v)
	case map[string]any:
		for _, key := range sortedKeys(v) {
			c.add(name+"."+key, v[key], depth+1)
		}
	}
}

// The words by which a metric's name says what is better, by KITT's benchmarks.
var (
	higherWords = []string{"tps", "throughput", "accuracy", "speedup", "efficiency", "match_rate", "score", "tokens_per_second"}
	lowerWords  = []string{"_ms", "latency", "ttft", "seconds", "memory", "jitter", "overhead", "joules"}
)

// direction returns which values of a metric are better, by its name.
func direction(name string) Direction {
	contains := func(words []string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
	}
	if _, rest, found := strings.Cut(name, "."); found {
		name = rest // the benchmark's own name says nothing about one of its metrics
	}
	if spread(name) {
		return ""
	}
	switch {
	case strings.HasPrefix(name, "latency_reduction"):
		return Higher
	case contains(higherWords):
		return Higher
	case contains(lowerWords):
		return Lower
	}
	return ""
}

// spread reports whether a metric says how much others vary.
func spread(name string) bool {
	return strings.HasSuffix(name, "std_dev") || strings.Contains(name, "range")
}

// headline returns the metric that stands for the run in a list: the first throughput.
func headline(metrics []Metric) *Metric {
	for _, want := range []string{"throughput.avg_tps", ".avg_tps", "tps", "tokens_per_second"} {
		for _, m := range metrics {
			if strings.HasSuffix(m.Name, want) {
				return &m
			}
		}
	}
	return nil
}

// tokenKeys are what benchmarks call the tokens that they generated.
var tokenKeys = []string{"total_tokens_generated", "total_tokens", "completion_tokens"}

// tokens returns how many tokens the benchmarks of a run generated; nil if none says so.
func tokens(data map[string]any) *float64 {
	sum, known := 0.0, false
	list, _ := data["results"].([]any)
	for _, element := range list {
		result, _ := element.(map[string]any)
		metrics, _ := result["metrics"].(map[string]any)
		for _, key := range tokenKeys {
			if n, ok := metrics[key].(float64); ok && n > 0 && !math.IsInf(n, 0) {
				sum, known = sum+n, true
				break
			}
		}
	}
	if !known {
		return nil
	}
	return &sum
}

// median returns the middle of values, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1]/2 + sorted[n/2]/2
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
