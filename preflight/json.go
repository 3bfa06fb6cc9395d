package preflight

import (
	"encoding/json"
	"io"
)

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
