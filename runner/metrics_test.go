package runner

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadMetrics(t *testing.T) {
	t.Parallel()
	got, err := ReadMetrics(strings.NewReader(
		`{"a": NaN, "b": [Infinity, -Infinity, 1], "c": "NaN \" Infinity", "d": "\ud800x", "e": 1e999, "f": -3.5, "g": 123456789012345678901234567890}`))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"a": nil, "b": []any{nil, nil, 1.0}, "c": `NaN " Infinity`, "d": "\uFFFDx", "e": nil, "f": -3.5, "g": 123456789012345678901234567890.0,
	}, got)
	for name, text := range map[string]string{
		"empty":     "",
		"cut":       `{"a": 1`,
		"a list":    `[1]`,
		"trailing":  `{} {}`,
		"a word":    `{"a": NaNny}`,
		"too deep":  strings.Repeat("[", 200) + strings.Repeat("]", 200),
		"no string": `{a: 1}`,
	} {
		_, err := ReadMetrics(strings.NewReader(text))
		require.Error(t, err, name)
	}
}

// FuzzDecodeLenient: what strict JSON takes, it takes with the same meaning, and
// what comes out always encodes again.
func FuzzDecodeLenient(f *testing.F) {
	f.Add([]byte(`{"a": NaN, "b": [1, "x\ud800"]}`))
	f.Add([]byte(`-Infinity`))
	f.Add([]byte(`{"NaN": "\\\"NaN"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := DecodeLenient(text)
		var strict any
		if json.Unmarshal(text, &strict) == nil {
			if err != nil {
				require.ErrorContains(t, err, "levels deep")
				return
			}
			require.Equal(t, strict, got)
		}
		if err == nil {
			_, err := json.Marshal(got)
			require.NoError(t, err)
		}
	})
}
