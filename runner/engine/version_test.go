package engine

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "\n \n": "", "ollama version is 0.5.1\n": "0.5.1",
		"ggml_cuda_init: found 1\nversion: 4567 (abc)\nbuilt with cc\n": "4567 (abc)",
		"b4567\nmore": "b4567", "version: \x1b[31m9": "version: \uFFFD[31m9",
		"version: 1" + strings.Repeat("0", 200): "1" + strings.Repeat("0", 79) + "…",
	} {
		require.Equal(t, want, parseVersion(text), "%q", text)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("version: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		require.LessOrEqual(t, len([]rune(parseVersion(text))), maxVersion+1)
	})
}
