package results

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteCSV writes the metrics of runs as CSV with a header: one row for each run and
// metric. A run without metrics has one row.
func WriteCSV(w io.Writer, runs []*Run) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"run", "origin", "agent", "agent_version", "model", "engine", "suite", "state", "ended", "verdict", "reason", "sm_clock_mhz", "joules",
		FieldGPU, FieldDriver, FieldImage, FieldModelHash, FieldPowerLimit, "metric", "value", "repetitions",
	})
	for _, r := range runs {
		ended := ""
		if !r.Ended.IsZero() {
			ended = r.Ended.UTC().Format(time.RFC3339)
		}
		row := []string{
			r.ID, r.Origin, r.Agent, r.AgentVersion, r.Model, r.Engine, r.Suite, r.State, ended, string(r.Verdict), r.Reason, number(r.SMClockMHz()),
			optional(r.Energy.Joules), r.Identity[FieldGPU], r.Identity[FieldDriver], r.Identity[FieldImage], r.Identity[FieldModelHash], r.Identity[FieldPowerLimit],
		}
		for i := range row {
			row[i] = cell(row[i])
		}
		if len(r.Metrics) == 0 {
			_ = out.Write(append(row, "", "", ""))
		}
		for _, m := range r.Metrics {
			_ = out.Write(append(row[:len(row):len(row)], cell(m.Name), strconv.FormatFloat(m.Value, 'g', -1, 64), strconv.Itoa(m.Repetitions)))
		}
	}
	out.Flush()
	return out.Error()
}

// cell returns a text that no spreadsheet takes for a formula.
func cell(text string) string {
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
