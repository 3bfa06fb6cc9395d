package outbox

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// checkerFunc is a Reporter with rules about result data.
type checkerFunc struct {
	reporter.Reporter
	check func(map[string]any) (map[string]any, []string)
}

func (c checkerFunc) CheckResult(data map[string]any) (map[string]any, []string) {
	return c.check(data)
}

func TestAResultIsReadFromWhereItLies(t *testing.T) {
	t.Parallel()
	data := map[string]any{
		"model": "<m>", "engine": "e", "timestamp": "t", "x": []any{nil, true, 1e300, "}\u2028{", map[string]any{"model": "other"}},
	}
	path := filepath.Join(t.TempDir(), jobs.ResultFile)
	require.NoError(t, writeResultFile(path, savedResult{CommandID: "c", Status: "completed", Error: "{", Data: data}))
	r, err := openResultFile(path)
	require.NoError(t, err)
	defer r.Close()
	require.Equal(t, []string{"<m>", "e", "t"}, []string{r.model, r.engine, r.timestamp})
	got, err := r.encoded().Decode()
	require.NoError(t, err)
	require.Equal(t, reporter.Result{CommandID: "c", Status: "completed", Error: "{", Data: data}, got)

	require.Error(t, writeResultFile(path, savedResult{Data: map[string]any{"x": math.NaN()}}))
	again, err := openResultFile(path)
	require.NoError(t, err, "what was there is there still")
	require.NoError(t, again.Close())
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 1)
}

func TestAResultOfAnOlderAgentIsCheckedOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), jobs.ResultFile)
	old := `{
  "version": 1,
  "command_id": "c",
  "status": "completed",
  "container_id": "",
  "error": "",
  "result_data": {
    "model": "\u003cm\u003e",
    "results": null
  }
}
`
	require.NoError(t, os.WriteFile(path, []byte(old), 0o600))
	checks := 0
	reporter := checkerFunc{check: func(data map[string]any) (map[string]any, []string) {
		checks++
		delete(data, "results")
		return data, []string{"results is left out"}
	}}
	for range 2 {
		var notes []string
		out, err := openResult(path, reporter, func(note string) { notes = append(notes, note) })
		require.NoError(t, err)
		got, err := out.encoded.Decode()
		require.NoError(t, err)
		require.Equal(t, map[string]any{"model": "<m>"}, got.Data)
		require.NoError(t, out.Close())
	}
	require.Equal(t, 1, checks)

	// As the older agent reads what is there now.
	var saved struct {
		CommandID string         `json:"command_id"`
		Status    string         `json:"status"`
		Data      map[string]any `json:"result_data"`
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &saved))
	require.Equal(t, "completed", saved.Status)
	require.Equal(t, map[string]any{"model": "<m>"}, saved.Data)
}

// FuzzResultFile puts anything into a result.json: what is opened is a report
// whose data is an object.
func FuzzResultFile(f *testing.F) {
	f.Add([]byte(`{"command_id":"c","result_data":{"model":"m","timestamp":5}}`))
	f.Add([]byte(`{"command_id":"c", "result_data" : null, "checked":[true]}`))
	f.Add([]byte(`{"command_id":"c","result_data":[{"x":1}]}`))
	f.Add([]byte(`{"command_id":"c","result_data":{"x":1e999}} trailing`))
	f.Add([]byte(`{"command_id":"c","result_data":{"x":1},"result_data":{}}`))
	path := filepath.Join(f.TempDir(), jobs.ResultFile)
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		r, err := openResultFile(path)
		if err != nil {
			return
		}
		defer r.Close()
		if r.size == 0 {
			return
		}
		body := make([]byte, r.size)
		_, err = r.file.ReadAt(body, r.offset)
		require.NoError(t, err)
		require.True(t, json.Valid(body), "%q", body)
		require.Equal(t, byte('{'), body[0])
		require.Equal(t, byte('}'), body[len(body)-1])
	})
}
