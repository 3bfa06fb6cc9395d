package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
)

// metricsFile is what a benchmark writes into its results directory at its
// very end.
const metricsFile = "metrics.json"

// readMetrics returns what the benchmark measured, in a form that the server
// takes, nil if there is nothing. A job whose metrics are missing or broken has
// completed all the same; the log says what is wrong with them, and the files
// stay where they are.
func (a *Agent) readMetrics(j *job, log *logstream.Log) map[string]any {
	data, err := readMetricsFile(filepath.Join(j.resultsDir(), metricsFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		log.Note("Warning: the benchmark wrote no " + metricsFile + "; there is no result to show")
		return nil
	case err != nil:
		log.Note(fmt.Sprintf("Warning: %s cannot be used (%v); it is kept in %s", metricsFile, err, j.resultsDir()))
		return nil
	}
	if checker, ok := a.cfg.Reporter.(Checker); ok {
		var notes []string
		data, notes = checker.CheckResult(data)
		for _, note := range notes {
			log.Note("Warning: " + metricsFile + ": " + note)
		}
	}
	if passed, ok := data["passed"].(bool); ok && !passed {
		log.Note("Warning: the benchmark ran to its end, but did not pass: " + failedTests(data))
	}
	return data
}

func readMetricsFile(path string) (map[string]any, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no plain file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return runner.ReadMetrics(f)
}

// failedTests names the tests of a result that did not pass.
func failedTests(data map[string]any) string {
	results, _ := data["results"].([]any)
	var names []string
	for _, r := range results {
		test, _ := r.(map[string]any)
		name, _ := test["test_name"].(string)
		if passed, ok := test["passed"].(bool); ok && !passed && name != "" {
			names = append(names, printable(name))
		}
	}
	if len(names) == 0 {
		return "it says \"passed\": false"
	}
	return strings.Join(names, ", ")
}

// writeResult writes the report of a job, so that it can be delivered however
// long the server is away. A full disk leaves the report to be made from the
// job's state, without data.
func (a *Agent) writeResult(j *job, outcome ending, data map[string]any) {
	_, checked := a.cfg.Reporter.(Checker) // readMetrics had it check the data
	saved := savedResult{
		Version:     recordVersion,
		Checked:     checked,
		CommandID:   j.order.Command.ID,
		Status:      outcome.State.wireStatus(),
		ContainerID: outcome.ContainerID,
		Error:       outcome.Error,
		Data:        data,
	}
	if err := writeResultFile(j.path(resultFileName), saved); err != nil {
		a.log.Warn("report not written", "job", j.id, "err", err)
	}
}

// bareResult returns the report of a job that has ended, without data.
func (j *job) bareResult() EncodedResult {
	outcome := j.snapshot().Outcome
	return EncodedResult{
		CommandID:   j.order.Command.ID,
		Status:      outcome.State.wireStatus(),
		ContainerID: outcome.ContainerID,
		Error:       outcome.Error,
	}
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
