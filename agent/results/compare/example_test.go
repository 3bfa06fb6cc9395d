package compare_test

import (
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/compare"
)

// A program compares figures of its own.
func ExampleSeries() {
	var before, after []compare.Value
	for i, tps := range []float64{101, 99, 100, 102, 100, 98} {
		at := time.Date(2026, 11, 29, 12, 2*i, 0, 0, time.UTC)
		before = append(before, compare.Value{Value: tps, Time: at})
		after = append(after, compare.Value{Value: tps + 5, Time: at.Add(time.Minute)}) // runs that alternate
	}
	row := compare.Series("tps", before, after, nil)
	fmt.Printf("%.0f to %.0f: %s, p=%.3f, %s\n", row.A.Median, row.B.Median, row.Delta(), row.P, row.Change)
	// Output: 100 to 105: +5.00%, p=0.002, different
}

// Runs on different GPUs are not compared, unless that is asked for.
func ExampleRuns() {
	runs := func(gpu string, tps ...float64) (all []*results.Run) {
		for i, v := range tps {
			all = append(all, &results.Run{
				Summary:  results.Summary{ID: fmt.Sprint(gpu, i), State: "completed"},
				Identity: results.Identity{results.FieldGPU: gpu},
				Metrics:  []results.Metric{{Name: "throughput.avg_tps", Value: v, Better: results.Higher}},
			})
		}
		return all
	}
	a, b := runs("H100", 100, 101, 102, 103), runs("H200", 140, 141, 142, 143)
	c, err := compare.Runs(a, b, compare.Options{})
	fmt.Println(c.Comparable, c.Differences, err)
	c, err = compare.Runs(a, b, compare.Options{Allow: []string{results.FieldGPU}})
	fmt.Println(c.Rows[0].Metric, c.Rows[0].Delta(), c.Rows[0].Improved(), err)
	// Output:
	// false [gpu: H100 against H200] <nil>
	// throughput.avg_tps +39.41% true <nil>
}
