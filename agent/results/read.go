package results

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/outbox"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// resultsDir is where a benchmark writes, below its job's directory.
const resultsDir = "results"

// maxData is the largest result data, in bytes: a little more than what runner.ReadMetrics
// takes and the agent adds.
const maxData = 10 << 20

// maxProblems is how many problems of one run are kept, each of at most maxProblem
// characters.
const (
	maxProblems = 10
	maxProblem  = 300
)

// Read returns the run of the job in dir, a directory below the agent's jobs. It works
// also while the agent makes the job's report. The error says why dir holds no job of
// a benchmark; what is wrong with its results is in Problems.
func Read(dir string) (*Run, error) {
	stored, err := jobs.Read(dir)
	if errors.Is(err, fs.ErrNotExist) && stored.Record.State == "" && stored.Command.Type == "" {
		return nil, err
	}
	if stored.Command.Type != "" && stored.Command.Type != jobs.TypeRunTest {
		return nil, errNoBenchmark
	}
	spec, rec := stored.Command.Spec, stored.Record
	r := &Run{Summary: Summary{
		ID: filepath.Base(dir), TestID: cmp.Or(stored.Command.TestID, rec.TestID),
		Model: cmp.Or(rec.ModelName, spec.Model), Engine: spec.Engine, Suite: spec.Suite, Mode: spec.Mode, Benchmark: spec.Benchmark,
		State: string(rec.State), Accepted: stored.AcceptedAt, Started: rec.StartedAt, Ended: rec.EndedAt,
	}}
	if rec.Outcome != nil && rec.State == jobs.StateFinishing {
		r.State = string(rec.Outcome.State)
	}
	r.problem(err)
	r.data = r.readData(dir)
	raw, err := readReport(dir)
	r.problem(err)
	r.rawReport = raw
	for _, name := range []string{integrity.TelemetryFile, integrity.TelemetryFile + zipped} {
		if path := filepath.Join(dir, name); base.Exists(path) {
			r.samples = path
		}
	}
	if o := rec.Outcome; o != nil {
		r.recorded = o.Machine
		r.Identity = Identity{FieldImage: o.Image.ID}
	}
	r.derive()
	return r, nil
}

var errNoBenchmark = errors.New("the job is not a benchmark")

// problem notes what could not be read.
func (s *Summary) problem(err error) {
	if err == nil {
		return
	}
	if len(s.Problems) < maxProblems {
		s.Problems = append(s.Problems, base.Printable(base.OneLine(err.Error()), maxProblem))
	}
}

// readData returns the result data: that of the agent's report, or, where that cannot
// be read, what the benchmark wrote.
func (r *Run) readData(dir string) map[string]any {
	result, err := outbox.ReadResultFile(filepath.Join(dir, jobs.ResultFile), maxData)
	if err == nil {
		return result.Data
	}
	if !r.Completed() {
		return nil // it may not be there yet
	}
	r.problem(fmt.Errorf("the agent's report cannot be used: %w", err))
	f, err := base.OpenRegular(filepath.Join(dir, resultsDir, runner.MetricsFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := runner.ReadMetrics(f)
	if err != nil {
		r.problem(fmt.Errorf("%s cannot be used: %w", runner.MetricsFile, err))
	}
	return data
}

// readReport returns the text of the agent's report on the machine; nil if there is
// none. The copy among the benchmark's results proves nothing by itself.
func readReport(dir string) ([]byte, error) {
	f, err := base.OpenRegular(filepath.Join(dir, integrity.ReportFile))
	if errors.Is(err, fs.ErrNotExist) {
		if base.Exists(filepath.Join(dir, resultsDir, integrity.ReportFile)) {
			return nil, fmt.Errorf("%s is only where the benchmark could write it, and is not used", integrity.ReportFile)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, integrity.MaxReport+1))
	if err == nil && len(text) > integrity.MaxReport {
		err = fmt.Errorf("%s: %w: more than %d bytes", integrity.ReportFile, base.ErrTooLarge, integrity.MaxReport)
	}
	return text, err
}

// derive fills in what follows from data and rawReport, which may be forged.
func (r *Run) derive() {
	r.Metrics, r.Missing = readMetrics(r.data)
	r.Headline = headline(r.Metrics)
	r.Energy.Tokens = tokens(r.data)
	if passed, ok := r.data["passed"].(bool); ok {
		r.Passed = &passed
	}
	info, _ := r.data["agent"].(map[string]any)
	r.Agent = cmp.Or(r.Agent, textOf(info, "name"))
	r.AgentVersion = cmp.Or(r.AgentVersion, textOf(info, "version"))
	r.Model = cmp.Or(r.Model, textOf(r.data, "model"))
	r.Engine = cmp.Or(r.Engine, textOf(r.data, "engine"))
	r.Suite = cmp.Or(r.Suite, textOf(r.data, "suite_name"))
	r.judge()
	r.identify(info)
	if r.Report != nil {
		r.Energy.Joules = joules(r.Report)
	}
	if e := &r.Energy; e.Joules != nil && e.Tokens != nil {
		e.JoulesPerToken = new(*e.Joules / *e.Tokens)
	}
}

// textOf returns the text under key, shortened; empty if there is none.
func textOf(m map[string]any, key string) string {
	text, _ := m[key].(string)
	return base.Printable(text, maxText)
}

// maxText bounds texts that come from files, in characters.
const maxText = 1024

// judge uses the report on the machine, if it is about this run.
func (r *Run) judge() {
	r.Verdict = NotJudged
	if r.rawReport == nil {
		if r.recorded != nil {
			r.problem(fmt.Errorf("%s is gone; the job's record says: %s", integrity.ReportFile, r.recorded.Text))
		}
		return
	}
	report, err := decodeReport(r.rawReport)
	if err == nil {
		err = r.believe(&report)
	}
	if said := r.recorded; err == nil && said != nil && said.Verdict != string(report.Verdict.Grade) {
		err = fmt.Errorf("its verdict is %s, and that in the job's record is %s", report.Verdict.Grade, said.Verdict)
	}
	if err != nil {
		r.problem(fmt.Errorf("%s: %w", integrity.ReportFile, err))
		return
	}
	r.Report = &report
	r.Verdict = report.Verdict.Grade
	if len(report.Verdict.Reasons) > 0 {
		r.Reason = base.Printable(report.Verdict.Reasons[0].Text, maxText)
	} else if len(report.Verdict.Unjudged) > 0 && r.Verdict == integrity.Unjudged {
		r.Reason = base.Printable(report.Verdict.Unjudged[0].Reason, maxText)
	}
}

// decodeReport returns the report that text holds.
func decodeReport(text []byte) (report integrity.Report, err error) {
	if err := json.Unmarshal(text, &report); err != nil {
		return report, err
	}
	if report.Schema != integrity.Schema {
		return report, fmt.Errorf("schema %s is not %s; a newer agent may have written it", base.Printable(strconv.Quote(report.Schema), 80), integrity.Schema)
	}
	if report.Start.Time.IsZero() {
		return report, errors.New("there is no start")
	}
	return report, nil
}

// slack is by how much the times of a job and of its report on the machine may differ.
const slack = 10 * time.Minute

// believe returns an error if the report contradicts itself or is about another run.
func (r *Run) believe(report *integrity.Report) error {
	grades := []integrity.Grade{integrity.Valid, integrity.Info, integrity.Unjudged, integrity.Warning, integrity.Invalid}
	rank := slices.Index(grades, report.Verdict.Grade)
	if rank < 0 || report.Verdict.Grade == integrity.Info {
		return fmt.Errorf("%s is not a verdict", base.Printable(strconv.Quote(string(report.Verdict.Grade)), 80))
	}
	end := report.Start.Time
	if report.End != nil {
		end = report.End.Time
	}
	switch {
	case end.Before(report.Start.Time.Add(-slack)):
		return errors.New("it ends before it begins")
	case !r.Accepted.IsZero() && report.Start.Time.Before(r.Accepted.Add(-slack)),
		!r.Ended.IsZero() && end.After(r.Ended.Add(slack)):
		return errors.New("it is about another time than this run's")
	}
	// The share of throttled time in the file can only be larger than what follows
	// from the file, which has not all samples.
	e := &integrity.Evidence{
		Start: report.Start, End: report.End, Samples: report.Samples, Foreign: report.Foreign, ForeignKnown: report.ForeignKnown,
		Neighbours: report.Neighbours,
	}
	again := integrity.Decide(e, integrity.Judges(rulesOf(report))...)
	if severity := slices.Index(grades, again.Grade); severity > rank && severity >= slices.Index(grades, integrity.Warning) {
		return fmt.Errorf("its verdict is %s, though its own counters make it %s (%s)", report.Verdict.Grade, again.Grade, again.Line())
	}
	return nil
}

// rulesOf returns the rules that judged a report, with the limits then in force.
func rulesOf(report *integrity.Report) (rules []integrity.Rule) {
	for _, rule := range integrity.DefaultRules() {
		for _, used := range report.Rules {
			if used.Code == rule.Code {
				rule.Limit = used.Limit
				rules = append(rules, rule)
				break
			}
		}
	}
	return rules
}

// identify fills in the identity. What the agent says comes before what the benchmark
// says.
func (r *Run) identify(info map[string]any) {
	id := Identity{}
	set := func(field, value string) {
		if value != "" && id[field] == "" {
			id[field] = base.Printable(value, maxText)
		}
	}
	if r.Report != nil {
		for i, key := range sortedIdentity(r.Report.Identity) {
			if i == maxFields {
				break
			}
			switch value := r.Report.Identity[key]; {
			case key == "gpus":
				set(FieldGPU, counted(strings.Split(value, ", ")))
			case !notIdentity[key]:
				set(fieldName(key), value)
			}
		}
		set(FieldPowerLimit, powerLimits(r.Report))
	}
	set(FieldGPU, gpusOf(info))
	image, _ := info["image"].(map[string]any)
	set(FieldImage, textOf(image, "id"))
	set(FieldImage, r.Identity[FieldImage])
	system, _ := r.data["system_info"].(map[string]any)
	set(FieldDriver, textOf(system, "driver_version"))
	r.Identity = id
}

// maxFields is how many fields of a report's identity are used.
const maxFields = 64

func sortedIdentity(id map[string]string) []string {
	keys := make([]string, 0, len(id))
	for key := range id {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// fieldNames are what reports call fields of an [Identity].
var fieldNames = map[string]string{
	"image_id": FieldImage, "image": "image_name",
}

// notIdentity are keys of a report's identity that say what the run was, and not on what.
var notIdentity = map[string]bool{"agent": true, "model": true, "model_path": true, "engine": true, "engine_mode": true, "suite": true}

func fieldName(key string) string {
	return cmp.Or(fieldNames[key], base.Printable(key, 100))
}

// gpusOf describes the GPUs that a run got, such as "8 x NVIDIA H100"; empty if they
// are not known.
func gpusOf(info map[string]any) string {
	list, _ := info["gpus"].([]any)
	var models []string
	for _, element := range list {
		gpu, _ := element.(map[string]any)
		if model := textOf(gpu, "model"); model != "" {
			models = append(models, model)
		}
	}
	return counted(models)
}

// powerLimits describes the power limits at the start, in W.
func powerLimits(report *integrity.Report) string {
	var limits []string
	for _, g := range report.Start.GPUs {
		if g.PowerLimitW != nil {
			limits = append(limits, strconv.FormatFloat(*g.PowerLimitW, 'f', -1, 64))
		}
	}
	return counted(limits)
}

// counted returns texts with how often each is there, in their order.
func counted(texts []string) string {
	slices.Sort(texts)
	var parts []string
	for len(texts) > 0 {
		n := 1
		for n < len(texts) && texts[n] == texts[0] {
			n++
		}
		part := texts[0]
		if n > 1 {
			part = fmt.Sprintf("%d x %s", n, part)
		}
		parts = append(parts, part)
		texts = texts[n:]
	}
	return strings.Join(parts, ", ")
}

// joules returns the energy by the GPUs' counters; nil if one of them is unknown.
func joules(report *integrity.Report) *float64 {
	sum := 0.0
	for _, d := range report.Delta {
		if d.EnergyJ == nil {
			return nil
		}
		sum += *d.EnergyJ
	}
	if sum <= 0 {
		return nil
	}
	return &sum
}
