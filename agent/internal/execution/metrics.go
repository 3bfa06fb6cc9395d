package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// readMetrics returns what the benchmark measured, in a form that the server
// accepts; nil if there is nothing. A job whose metrics are missing or broken has
// completed all the same. Its log says what is wrong with them, and the files stay.
func (x *execution) readMetrics(ctx context.Context) (data map[string]any) {
	err := x.waitOut(ctx, "read its "+runner.MetricsFile, func() (err error) {
		data, err = readMetricsFile(filepath.Join(x.job.ResultsDir(), runner.MetricsFile))
		return err
	})
	switch {
	case x.left:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		x.jobLog.Note("Warning: the benchmark wrote no " + runner.MetricsFile + "; there is no result to show")
		return nil
	case err != nil:
		x.jobLog.Note(fmt.Sprintf("Warning: %s cannot be used (%v); it is kept in %s", runner.MetricsFile, err, x.job.ResultsDir()))
		return nil
	}
	x.cfg.Secrets.Value(data)
	x.fillIn(data)
	if checker, ok := reporter.As[reporter.Checker](x.cfg.Reporter); ok {
		var changes []string
		data, changes = checker.CheckResult(data)
		for _, change := range changes {
			x.jobLog.Note("Warning: " + runner.MetricsFile + ": " + change)
		}
	}
	if passed, ok := data["passed"].(bool); ok && !passed {
		x.jobLog.Note("Warning: the benchmark ran to its end, but did not pass: " + failedTests(data))
	}
	return data
}

// fillIn adds what the agent knows about a result and its runner did not write: the
// server lists results by model, engine, suite and time. The model is called as on
// every machine; where it is on this one is a key of its own.
func (x *execution) fillIn(data map[string]any) {
	spec, rec := x.job.Command.Spec, x.job.Record()
	data["model"] = cmp.Or(rec.ModelName, spec.Model)
	if rec.ModelPath != "" && rec.ModelPath != data["model"] {
		data["model_path"] = rec.ModelPath
	}
	data[AgentKey] = x.agentInfo()
	delete(data, IntegrityKey)
	if info := x.integrityData(); info != nil {
		data[IntegrityKey] = info
	}
	for key, value := range map[string]string{
		"engine": spec.Engine, "suite_name": spec.Suite,
		"timestamp": time.Now().Format("2006-01-02T15:04:05.000000"), // as `kitt run` writes it
	} {
		if text, ok := data[key].(string); !ok || text == "" {
			data[key] = value
		}
	}
}

func readMetricsFile(path string) (map[string]any, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := base.OpenRegular(path)
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
			names = append(names, base.Printable(name, 80))
		}
	}
	if len(names) == 0 {
		return "it says \"passed\": false"
	}
	return strings.Join(names, ", ")
}
