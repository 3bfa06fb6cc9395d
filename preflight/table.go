package preflight

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteTable writes results as a table of check, whether it is required, status
// and details. Beneath each that is not in order stands what mends it.
func WriteTable(w io.Writer, results []Result) error {
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
		line(rows[i], oneLine(r.Details))
		if r.Fix != "" && r.Status != OK {
			line([3]string{}, "fix: "+oneLine(r.Fix))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Line returns one result as a line for a terminal, without a newline.
func Line(r Result) string {
	return fmt.Sprintf("%-4s  %s: %s", r.Status, r.Name, oneLine(r.Details))
}

// oneLine makes text safe for a line of a terminal: what a server or a tool sent
// may hold newlines and control codes.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029
	}), " ")
}

// WriteJSON writes results as a JSON object with the results and whether all that
// is required is there.
func WriteJSON(w io.Writer, results []Result) error {
	if results == nil {
		results = []Result{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Ready  bool     `json:"ready"`
		Checks []Result `json:"checks"`
	}{len(Failed(results)) == 0, results})
}
