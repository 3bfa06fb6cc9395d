package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An outcome is a result as the pages show it. Whatever a result lacks is
// blank.
type outcome struct {
	ID, Model, Engine, Suite, Time, Machine string
	Passed                                  bool
	Benchmarks                              []benchmark
}

// A benchmark is one test of a result.
type benchmark struct {
	Name    string
	Passed  bool
	Metrics []metric
	More    []group // of which there are too many to be shown at once
	Errors  []any
}

// A group is an object with many figures, such as an accuracy for each subject.
type group struct {
	Name    string
	Metrics []metric
}

// manyFigures is when an object's figures are shown on demand only.
const manyFigures = 12

// A metric is one figure, and where it stands: "ttft_ms p50".
type metric struct {
	Name  string
	Value any
}

func newOutcome(data map[string]any) *outcome {
	o := &outcome{
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
		b := benchmark{Name: text(fields["test_name"]), Passed: fields["passed"] == true}
		b.Errors, _ = fields["errors"].([]any)
		metrics, _ := fields["metrics"].(map[string]any)
		for _, name := range slices.SortedFunc(maps.Keys(metrics), inOrder) {
			if many, ok := metrics[name].(map[string]any); ok && len(many) > manyFigures {
				b.More = append(b.More, group{name, flatten("", many)})
			} else {
				b.Metrics = append(b.Metrics, flatten(name, metrics[name])...)
			}
		}
		o.Benchmarks = append(o.Benchmarks, b)
	}
	return o
}

// Figure returns the metric of that name of whichever benchmark has it.
func (o *outcome) Figure(name string) any {
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
func flatten(name string, v any) []metric {
	var out []metric
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.SortedFunc(maps.Keys(v), inOrder) {
			out = append(out, flatten(strings.TrimSpace(name+" "+key), v[key])...)
		}
	case []any:
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = metricText(v[i])
		}
		out = append(out, metric{name, strings.Join(texts, ", ")})
	default:
		out = append(out, metric{name, v})
	}
	return out
}

// inOrder puts the parts of a distribution in the order of their size, and all
// else in that of the alphabet.
func inOrder(a, b string) int {
	rank := func(key string) int {
		return slices.Index([]string{"min", "avg", "p50", "p95", "p99", "max", "std_dev"}, key)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
