package runner_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
)

func TestWriteReport(t *testing.T) {
	t.Parallel()
	job := newJob(t)
	require.NoError(t, runner.WriteReport(job, runner.Report{Tests: []runner.Test{
		{Name: "throughput", Metrics: map[string]float64{"avg_tps": 12.5}},
		{Name: "latency", Version: "2", Run: 3, Failed: true},
	}}))
	f, err := os.Open(filepath.Join(job.ResultsDir, runner.MetricsFile))
	require.NoError(t, err)
	defer f.Close()
	data, err := runner.ReadMetrics(f)
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"passed": false, "total_benchmarks": 2.0, "passed_count": 1.0, "failed_count": 1.0,
		"results": []any{
			map[string]any{"test_name": "throughput", "run_number": 1.0, "passed": true, "metrics": map[string]any{"avg_tps": 12.5}},
			map[string]any{"test_name": "latency", "test_version": "2", "run_number": 3.0, "passed": false, "metrics": map[string]any{}},
		},
	}, data)
}

func TestWriteReportRefuses(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]runner.Report{
		"no tests":             {},
		"test 2 has no name":   {Tests: []runner.Test{{Name: "a"}, {}}},
		"unsupported value: +": {Tests: []runner.Test{{Name: "a", Metrics: map[string]float64{"x": math.Inf(1)}}}},
	} {
		job := newJob(t)
		require.ErrorContains(t, runner.WriteReport(job, r), want)
		require.NoFileExists(t, filepath.Join(job.ResultsDir, runner.MetricsFile))
	}
	job := newJob(t)
	job.ResultsDir += "/nowhere"
	require.ErrorIs(t, runner.WriteReport(job, runner.Report{Tests: []runner.Test{{Name: "a"}}}), os.ErrNotExist)
}

// A runner of one's own writes what it measured before Run returns.
func ExampleWriteReport() {
	dir, err := os.MkdirTemp("", "results")
	if err != nil {
		fmt.Println(err)
	}
	defer os.RemoveAll(dir)
	err = runner.WriteReport(runner.Job{ID: "job-1", ResultsDir: dir}, runner.Report{Tests: []runner.Test{
		{Name: "throughput", Metrics: map[string]float64{"avg_tps": 101.5}},
	}})
	fmt.Println(err)
	// Output: <nil>
}
