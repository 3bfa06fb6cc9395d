package native_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/engine/native"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// Whatever a package holds, nothing of it lands outside of the manager's directory, and
// nothing that is not whole stays.
func FuzzPackage(f *testing.F) {
	f.Add(tarOf(f, entry{name: "../x/llama-server", text: script}))
	f.Add(tarOf(f, entry{name: "a", link: "b"}, entry{name: "b", link: "a"}, entry{name: "a/llama-server", text: script}))
	f.Add(tarOf(f, entry{name: "d/llama-server", text: script}))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir, file := filepath.Join(parent, "engines"), filepath.Join(parent, "p.tar.gz")
		require.NoError(t, os.WriteFile(file, data, 0o600))
		cfg := config(dir, parent)
		cfg.Packages = map[string]native.Package{"llama_cpp": {Version: "1", URL: file, SHA256: sum(data)}}
		m, err := native.Open(cfg)
		require.NoError(t, err)
		err = m.Install(t.Context(), "llama_cpp", &runnertest.Recorder{})
		require.NoError(t, m.Close())
		outside, readErr := os.ReadDir(parent)
		require.NoError(t, readErr)
		require.Len(t, outside, 2)
		versions, readErr := os.ReadDir(filepath.Join(dir, "llama_cpp", "versions"))
		require.NoError(t, readErr)
		require.Equal(t, err == nil, len(versions) == 1)
	})
}
