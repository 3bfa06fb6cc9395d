package kittapitest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJSONAsPythonHasIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, dumped string // dumped as json.dumps would
		fails      bool
	}{
		{in: `{"b":1,"a":[1.0,-2e3,"x"]}`, dumped: `{"b": 1, "a": [1.0, -2e3, "x"]}`},
		{in: `[NaN,Infinity,-Infinity]`, dumped: `[NaN, Infinity, -Infinity]`},
		{in: `"\ud800"`, dumped: `"\ud800"`},
		{in: `"\ud83d\ude00 😀"`, dumped: `"\ud83d\ude00 \ud83d\ude00"`},
		{in: `"\ud83dx\udc00\ud800\u0041"`, dumped: `"\ud83dx\udc00\ud800A"`},
		{in: `"\"\\\/\b\f\n\r\t\u0001\u007f"`, dumped: `"\"\\/\b\f\n\r\t\u0001` + "\x7f\""},
		{in: " [ ] ", dumped: "[]"},
		{in: `{}`, dumped: `{}`},
		{in: `{"a":1,"a":2}`, dumped: `{"a": 2}`},
		{in: `{"a":1,}`, fails: true},
		{in: `[1,]`, fails: true},
		{in: `[01]`, fails: true},
		{in: `nan`, fails: true},
		{in: "\"\n\"", fails: true},
		{in: `"\x"`, fails: true},
		{in: `"\ud8"`, fails: true},
		{in: "\"\xff\"", fails: true},
		{in: `1 2`, fails: true},
		{in: ``, fails: true},
		{in: `"a`, fails: true},
	}
	for _, tt := range tests {
		v, err := parse([]byte(tt.in))
		if tt.fails {
			require.Error(t, err, tt.in)
			continue
		}
		require.NoError(t, err, tt.in)
		require.Equal(t, tt.dumped, string(dumpStyle.write(nil, v)), tt.in)
	}
}

func TestPythonsWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`null`: "None", `true`: "True", `1`: "1", `30.9`: "30.9", `1e22`: "1e+22", `1.0`: "1.0", `0.00001`: "1e-05",
		`["a",null,1]`: "['a', None, 1]", `{"a":"it's"}`: `{'a': "it's"}`, `"x"`: "x",
	} {
		v, err := parse([]byte(in))
		require.NoError(t, err)
		require.Equal(t, want, str(v), in)
	}
	for in, want := range map[string]string{`" 60 "`: "60", `"1_0"`: "10", `30.9`: "30", `true`: "1", `"+5"`: "5"} {
		v, err := parse([]byte(in))
		require.NoError(t, err)
		n, ok := toInt(v)
		require.True(t, ok, in)
		require.Equal(t, want, n.String(), in)
	}
	for _, in := range []string{`"soon"`, `null`, `NaN`, `"1__0"`, `"_1"`, `[]`, `"30.9"`} {
		v, err := parse([]byte(in))
		require.NoError(t, err)
		_, ok := toInt(v)
		require.False(t, ok, in)
	}
}

// FuzzParse checks that what is JSON to Go is JSON here and means the same, and
// that what is written can be read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,true,"x\u00e9\n"]}`, `"\ud800"`, `[NaN]`, `{`, `"\ud83d\ude00"`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		v, err := parse(src)
		if err != nil {
			return
		}
		for _, s := range []style{answerStyle, dumpStyle} {
			out := s.write(nil, v)
			again, err := parse(out)
			require.NoError(t, err)
			require.Equal(t, string(answerStyle.write(nil, v)), string(answerStyle.write(nil, again)))
		}
		if json.Valid(src) {
			var want, got any
			if json.Unmarshal(src, &want) == nil {
				require.NoError(t, json.Unmarshal(answerStyle.write(nil, v), &got))
				require.Equal(t, want, got)
			}
		}
	})
}
