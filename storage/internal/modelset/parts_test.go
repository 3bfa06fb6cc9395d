package modelset_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

func TestMissingParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		files, missing []string
	}{
		{"no parts", []string{"a.gguf", "config.json", "x-1-of-2.gguf", "x-00003-of-00002.gguf", "x-00001-of-00000.gguf"}, nil},
		{"whole", []string{"big-00002-of-00002.gguf", "big-00001-of-00002.gguf"}, nil},
		{"one of three", []string{"big-00002-of-00003.gguf"}, []string{"big-00001-of-00003.gguf", "big-00003-of-00003.gguf"}},
		{"six digits", []string{"model-00001-of-000002.safetensors"}, []string{"model-00002-of-000002.safetensors"}},
		{"from zero", []string{"m-00000-of-00002.bin", "m-00001-of-00002.bin"}, nil},
		{"from zero, one missing", []string{"m-00000-of-00002.bin"}, []string{"m-00001-of-00002.bin"}},
		{"quantizations apart", []string{"q4-00001-of-00001.gguf", "Q8/q8-00002-of-00002.gguf"}, []string{"Q8/q8-00001-of-00002.gguf"}},
		{"two formats", []string{"m-00001-of-00001.bin", "m-00001-of-00001.safetensors"}, nil},
		{"a number that no file has", []string{"m-00001-of-99999.gguf"}, nil},
	} {
		require.Equal(t, tt.missing, modelset.MissingParts(slices.Values(tt.files)), tt.name)
	}
}

func TestNamesOfASet(t *testing.T) {
	t.Parallel()
	p, ok := modelset.ParsePart("big-00002-of-000003.gguf")
	require.True(t, ok)
	require.Equal(t, 2, p.Number)
	none := func(string) bool { return false }
	require.Equal(t, []string{"big-00001-of-000003.gguf", "big-00002-of-000003.gguf", "big-00003-of-000003.gguf"}, p.Set.Names(none))
	zero := func(name string) bool { return strings.Contains(name, "-00000-") }
	require.Equal(t, "big-00000-of-000003.gguf", p.Set.Names(zero)[0])
}

func FuzzParsePart(f *testing.F) {
	f.Add("big-00001-of-00003.gguf")
	f.Add("-00000-of-00001.")
	f.Fuzz(func(t *testing.T, name string) {
		if p, ok := modelset.ParsePart(name); ok {
			require.Equal(t, name, p.Set.Name(p.Number))
			names := p.Set.Names(func(n string) bool { return n == name })
			require.Len(t, names, p.Set.Count)
		}
	})
}

func TestReadIndex(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       []string
		fails      bool
	}{
		{"shards", `{"metadata":{"total_size":1,"x":[{}]},"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}`,
			[]string{"m-1.safetensors", "m-2.safetensors"}, false},
		{"below", `{"weight_map":{"a":"sub/m"}}`, []string{"sub/m"}, false},
		{"outside", `{"weight_map":{"a":"../m","b":"/etc/passwd","c":"","d":"x/../../y"}}`, nil, false},
		{"of something else", `{"weights":1}`, nil, false},
		{"empty", ``, nil, true},
		{"torn", `{"weight_map":{"a":"m`, nil, true},
		{"a list", `[1]`, nil, true},
		{"numbers", `{"weight_map":{"a":1}}`, nil, true},
		{"no JSON", `<html>`, nil, true},
	} {
		got, err := modelset.ReadIndex(strings.NewReader(tt.text))
		require.Equal(t, tt.fails, err != nil, "%s: %v", tt.name, err)
		require.Equal(t, tt.want, got, tt.name)
		if tt.fails {
			require.ErrorIs(t, err, modelset.ErrIndex, tt.name)
		}
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(`{"weight_map":{"a":"b"}}`)
	f.Add(`{"metadata":{},"weight_map":{"a":"../b"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		names, err := modelset.ReadIndex(strings.NewReader(text))
		if err != nil {
			require.ErrorIs(t, err, modelset.ErrIndex)
		}
		for _, name := range names {
			require.False(t, strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(name, "../"), name)
		}
	})
}

func TestIsPointer(t *testing.T) {
	t.Parallel()
	require.True(t, modelset.IsPointer([]byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")))
	require.False(t, modelset.IsPointer([]byte("version https://example.org")))
	require.False(t, modelset.IsPointer(nil))
}
