package kittapitest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPythonJSON(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"b":1,"a":[1.0,-2e3,"x"]}`:         `{"a":[1.0,-2e3,"x"],"b":1}`,
		`{"NaN":[NaN,Infinity,-Infinity]}`:   `{"NaN":[NaN,Infinity,-Infinity]}`,
		`["NaN \" Infinity",NaN]`:            `["NaN \" Infinity",NaN]`,
		`"\ud800"`:                           `"\ufdd0"`,
		`"\ud83d\ude00 😀"`:                   `"\ud83d\ude00 \ud83d\ude00"`,
		`"\ud83dx\udc00\ud800\u0041\\ud800"`: `"\ufdd0x\ufdd0\ufdd0A\\ud800"`,
		`"<\"\\\/\b\f\n\r\t\u0001\u007f"`:    `"<\"\\/\b\f\n\r\t\u0001` + "\x7f\"",
		" [ ] ":                              "[]",
	} {
		v, err := parse([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, want, string(encode(v)), in)
	}
	for _, in := range []string{`{"a":1,}`, `nan`, `1-Infinity`, `"\x"`, "\"\xff\"", `1 2`, `1 ]`, ``} {
		_, err := parse([]byte(in))
		require.Error(t, err, in)
	}
	require.Equal(t, `{"b": [1, "x,:\""], "a": {}}`, dump([]byte(` {"b":[1,"x,:\""], "a":{ }}`)))
}

// FuzzParse checks that JSON means the same here as in Go, and that encode writes
// what parse reads.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,true,"x\u00e9\n"]}`, `"\ud800"`, `[NaN]`, `{`, `"\ud83d\ude00"`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		v, err := parse(src)
		if err != nil {
			return
		}
		out := encode(v)
		again, err := parse(out)
		require.NoError(t, err)
		require.Equal(t, string(out), string(encode(again)))
		var want, got any
		if json.Unmarshal(src, &want) == nil && json.Unmarshal(out, &got) == nil && !hasMark(v) {
			require.Equal(t, want, got)
		}
	})
}

// hasMark reports whether v has a string or key that this package marks.
func hasMark(v any) bool {
	switch v := v.(type) {
	case string:
		return !bindable(v)
	case num:
		return !json.Valid([]byte(v))
	case []any:
		for _, element := range v {
			if hasMark(element) {
				return true
			}
		}
	case object:
		for key, value := range v {
			if hasMark(key) || hasMark(value) {
				return true
			}
		}
	}
	return false
}
