package runner

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// MetricsFile is the file in Job.ResultsDir that holds what a benchmark measured. `kitt
// run` writes it, and so does [WriteReport].
const MetricsFile = "metrics.json"

// A Report is what a benchmark measured, for runners that don't run `kitt`.
type Report struct {
	Tests []Test // at least one
}

// A Test is one part of a benchmark.
type Test struct {
	Name    string             // such as throughput; required
	Version string             // of the test; may be empty
	Run     int                // from 1; 0 means 1
	Failed  bool               // whether the test ran and did not pass
	Metrics map[string]float64 // by name, such as avg_tps; each finite
}

// WriteReport writes r into the job's results directory, where the agent finds it after
// Run has returned. The agent adds the model, engine, suite and time. The error says
// what is wrong with r, or is that of the disk.
func WriteReport(job Job, r Report) error {
	type result struct {
		Name    string             `json:"test_name"`
		Version string             `json:"test_version,omitempty"`
		Run     int                `json:"run_number"`
		Passed  bool               `json:"passed"`
		Metrics map[string]float64 `json:"metrics"`
	}
	if len(r.Tests) == 0 {
		return fmt.Errorf("report of job %s: it has no tests", job.ID)
	}
	results := make([]result, 0, len(r.Tests))
	failed := 0
	for i, t := range r.Tests {
		if t.Name == "" {
			return fmt.Errorf("report of job %s: test %d has no name", job.ID, i+1)
		}
		if t.Failed {
			failed++
		}
		metrics := t.Metrics
		if metrics == nil {
			metrics = map[string]float64{}
		}
		results = append(results, result{t.Name, t.Version, max(t.Run, 1), !t.Failed, metrics})
	}
	text, err := json.Marshal(map[string]any{
		"passed": failed == 0, "total_benchmarks": len(results), "passed_count": len(results) - failed, "failed_count": failed,
		"results": results,
	})
	if err != nil { // a metric that isn't finite
		return fmt.Errorf("report of job %s: %w", job.ID, err)
	}
	path := filepath.Join(job.ResultsDir, MetricsFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
