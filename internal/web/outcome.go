package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// An Outcome is a result as the pages show it. Whatever a result lacks is
// blank.
type Outcome struct {
	ID, Model, Engine, Suite, Time, Machine string
	Passed                                  bool
	Benchmarks                              []Benchmark
}

// A Benchmark is one test of a result.
type Benchmark struct {
	Name    string
	Passed  bool
	Metrics []Metric
	More    []Group // of which there are too many to be shown at once
	Errors  []any
}

// A Group is an object with many figures, such as an accuracy for each subject.
type Group struct {
	Name    string
	Metrics []Metric
}

// manyFigures is when an object's figures are shown on demand only.
const manyFigures = 12

// A Metric is one figure, and where it stands: "ttft_ms p50".
type Metric struct {
	Name  string
	Value any
}

// NewOutcome returns the result that data holds, as KITT stores it.
func NewOutcome(data map[string]any) *Outcome {
	o := &Outcome{
		ID: text(data["id"]), Model: text(data["model"]), Engine: text(data["engine"]), Suite: text(data["suite_name"]),
		Time: strings.Replace(text(data["timestamp"]), "T", " ", 1), Passed: data["passed"] == true,
	}
	o.Time, _, _ = strings.Cut(o.Time, ".")
	if system, ok := data["system_info"].(map[string]any); ok {
		o.Machine = machine(system)
	}
	results, _ := data["results"].([]any)
	for _, r := range results {
		fields, _ := r.(map[string]any)
		b := Benchmark{Name: text(fields["test_name"]), Passed: fields["passed"] == true}
		b.Errors, _ = fields["errors"].([]any)
		metrics, _ := fields["metrics"].(map[string]any)
		for _, name := range slices.SortedFunc(maps.Keys(metrics), inOrder) {
			if many, ok := metrics[name].(map[string]any); ok && len(many) > manyFigures {
				b.More = append(b.More, Group{name, cut(flatten("", many))})
			} else {
				b.Metrics = append(b.Metrics, flatten(name, metrics[name])...)
			}
		}
		b.Metrics = cut(b.Metrics)
		o.Benchmarks = append(o.Benchmarks, b)
	}
	return o
}

// Figure returns the metric of that name of whichever benchmark has it.
func (o *Outcome) Figure(name string) any {
	for _, b := range o.Benchmarks {
		for _, m := range b.Metrics {
			if m.Name == name {
				return m.Value
			}
		}
	}
	return "–"
}

func machine(system map[string]any) string {
	if gpu, ok := system["gpu"].(map[string]any); ok {
		return fmt.Sprintf("%v × %v", gpu["count"], gpu["model"])
	}
	cpu, _ := system["cpu"].(map[string]any)
	return text(cpu["model"])
}

// flatten returns the figures in v, which lists and objects may hold at any
// depth.
func flatten(name string, v any) []Metric {
	var out []Metric
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.SortedFunc(maps.Keys(v), inOrder) {
			out = append(out, flatten(strings.TrimSpace(name+" "+key), v[key])...)
		}
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = MetricText(v[i])
		}
		out = append(out, Metric{name, strings.Join(texts, ", ")})
	default:
		out = append(out, Metric{name, v})
	}
	return out
}

// maxFigures bounds what a page shows of one benchmark: anything may be in a result.
const maxFigures = 1000

// cut returns the first maxFigures of all, and how many there are besides.
func cut(all []Metric) []Metric {
	if len(all) <= maxFigures {
		return all
	}
	return append(slices.Clone(all[:maxFigures]), Metric{"not shown", fmt.Sprintf("%d more figures", len(all)-maxFigures)})
}

// inOrder puts the parts of a distribution in the order of their size, and all
// else in that of the alphabet.
func inOrder(a, b string) int {
	rank := func(key string) int {
		return slices.Index([]string{"min", "avg", "p50", "p95", "p99", "max", "std_dev"}, key)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// number writes a figure without the digits that it doesn't have.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
