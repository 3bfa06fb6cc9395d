package preflight

import (
	"encoding/json"
	"io"
)

// WriteJSON writes an indented JSON object: "checks" has the results, and "ready"
// is true if no required check failed. The error is that of w.
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
