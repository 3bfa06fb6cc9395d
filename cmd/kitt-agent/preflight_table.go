package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/preflight"
)

// writeChecks writes results as a table: the check, whether it is required, its
// status and details. The line below a check that failed says how to fix it.
func writeChecks(w io.Writer, results []preflight.Result) error {
	head := [3]string{"CHECK", "REQUIRED", "STATUS"}
	var width [3]int
	rows := make([][3]string, len(results))
	for i, r := range results {
		required := "no"
		if r.Required {
			required = "yes"
		}
		rows[i] = [3]string{r.Name, required, string(r.Status)}
	}
	for _, row := range append(rows, head) {
		for c, cell := range row {
			width[c] = max(width[c], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(row [3]string, rest string) {
		for c, cell := range row {
			b.WriteString(cell)
			b.WriteString(strings.Repeat(" ", width[c]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(rest)
		b.WriteByte('\n')
	}
	line(head, "DETAILS")
	for i, r := range results {
		line(rows[i], base.OneLine(r.Details))
		if r.Fix != "" && r.Status != preflight.OK {
			line([3]string{}, "fix: "+base.OneLine(r.Fix))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// checkLine returns one result as a line for a terminal, without a newline.
func checkLine(r preflight.Result) string {
	return fmt.Sprintf("%-4s  %s: %s", r.Status, r.Name, base.OneLine(r.Details))
}
