package engine_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModelPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	llama := spec(t, "llama_cpp")
	path, err := llama.ModelPath("org/model")
	require.NoError(t, err)
	require.Equal(t, "org/model", path)
	_, err = llama.ModelPath(dir)
	require.ErrorContains(t, err, "has no .gguf file for llama_cpp")
	for _, name := range []string{"config.json", "mmproj-m.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"} {
		write(t, filepath.Join(dir, name), "")
	}
	path, err = llama.ModelPath(dir)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "m-00001-of-00002.gguf"), path)
	path, err = spec(t, "vllm").ModelPath(dir)
	require.NoError(t, err)
	require.Equal(t, dir, path)
	write(t, filepath.Join(dir, "other.gguf"), "")
	_, err = llama.ModelPath(dir)
	require.ErrorContains(t, err, `has several files for llama_cpp: "m-00001-of-00002.gguf", "other.gguf"`)
}
