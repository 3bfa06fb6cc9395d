package modelset_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

func TestTogether(t *testing.T) {
	t.Parallel()
	dir := []string{
		"README.md", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf", "small.gguf",
		"w-00001-of-00002.safetensors", "w.safetensors.index.json", "torn-00002-of-00002.gguf",
	}
	for name, want := range map[string][]string{
		"big-00002-of-00002.gguf":      {"big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"},
		"small.gguf":                   {"small.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"},
		"mmproj-F16.gguf":              {"mmproj-F16.gguf"},
		"torn-00002-of-00002.gguf":     {"torn-00002-of-00002.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"},
		"w.safetensors.index.json":     {"w.safetensors.index.json", "w-00001-of-00002.safetensors"},
		"w-00001-of-00002.safetensors": {"w-00001-of-00002.safetensors", "w.safetensors.index.json"},
		"README.md":                    {"README.md"},
	} {
		require.Equal(t, want, modelset.Together(name, dir), name)
	}
	require.Equal(t, []string{"a/big-00001-of-00002.gguf", "a/big-00000-of-00002.gguf"}, modelset.FirstParts("a/big-00002-of-00002.gguf"))
	require.Nil(t, modelset.FirstParts("a/big.gguf"))
	require.True(t, modelset.NeedsDirectory("model-00001-of-00002.safetensors"))
	require.False(t, modelset.NeedsDirectory("model-00001-of-00002.gguf"))
	require.False(t, modelset.MayHaveCompanions("model.safetensors"))
}
