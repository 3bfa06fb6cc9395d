package results

import (
	"context"
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteCSV writes the metrics of runs as CSV with a header: one row for each run and
// metric. A run without metrics has one row.
func WriteCSV(w io.Writer, runs []*Run) error {
	out := newMetricsCSV(w)
	for _, r := range runs {
		out.add(r)
	}
	return out.flush()
}

// WriteCSV writes the metrics of runs as the function of that name does, and holds one of
// them in memory at a time.
func (s *Store) WriteCSV(ctx context.Context, w io.Writer, runs []Summary) error {
	out := newMetricsCSV(w)
	for _, sum := range runs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		r, err := s.Load(sum)
		if err != nil {
			return err
		}
		out.add(r)
	}
	return out.flush()
}

// metricsCSV writes metrics as CSV.
type metricsCSV struct{ out *csv.Writer }

func newMetricsCSV(w io.Writer) metricsCSV {
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"run", "origin", "agent", "agent_version", "model", "engine", "suite", "state", "ended", "verdict", "reason", "sm_clock_mhz", "joules",
		FieldGPU, FieldDriver, FieldImage, FieldModelHash, FieldPowerLimit, "metric", "value", "repetitions",
	})
	return metricsCSV{out}
}

// add writes the rows of a run. Errors come with flush.
func (m metricsCSV) add(r *Run) {
	row := []string{
		r.ID, r.Origin, r.Agent, r.AgentVersion, r.Model, r.Engine, r.Suite, r.State, instant(r.Ended), string(r.Verdict), r.Reason, number(r.SMClockMHz()),
		optional(r.Energy.Joules), r.Identity[FieldGPU], r.Identity[FieldDriver], r.Identity[FieldImage], r.Identity[FieldModelHash], r.Identity[FieldPowerLimit],
	}
	for i := range row {
		row[i] = Cell(row[i])
	}
	if len(r.Metrics) == 0 {
		_ = m.out.Write(append(row, "", "", ""))
	}
	for _, each := range r.Metrics {
		_ = m.out.Write(append(row[:len(row):len(row)], Cell(each.Name), strconv.FormatFloat(each.Value, 'g', -1, 64), strconv.Itoa(each.Repetitions)))
	}
}

func (m metricsCSV) flush() error {
	m.out.Flush()
	return m.out.Error()
}

// Cell returns a text that no spreadsheet takes for a formula.
func Cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// number returns v, or nothing for an unknown one.
func number(v float64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'f', 1, 64)
}

// WriteListCSV writes runs as CSV with a header, one row for each.
func WriteListCSV(w io.Writer, runs []Summary) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"run", "test", "origin", "agent", "agent_version", "model", "engine", "suite", "benchmark", "state", "started", "ended", "verdict", "reason", "metric", "value",
	})
	for i := range runs {
		r := &runs[i]
		name, value := "", ""
		if r.Headline != nil {
			name, value = r.Headline.Name, strconv.FormatFloat(r.Headline.Value, 'g', -1, 64)
		}
		row := []string{
			r.ID, r.TestID, r.Origin, r.Agent, r.AgentVersion, r.Model, r.Engine, r.Suite, r.Benchmark, r.State, instant(r.Started), instant(r.Ended),
			string(r.Verdict), r.Reason, name, value,
		}
		for k := range row[:len(row)-1] {
			row[k] = Cell(row[k])
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}

// instant returns a time, or nothing for an unknown one.
func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
