package engineport

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoadedInOllama(t *testing.T) {
	t.Parallel()
	answer := `{"models": [{"name": "qwen2.5:7b", "size": 1}, {"name": "llama3:latest"}]}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/ps" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port
	models, err := LoadedInOllama(t.Context(), port)
	require.NoError(t, err)
	require.Equal(t, []string{"qwen2.5:7b", "llama3:latest"}, models)
	answer = `[`
	_, err = LoadedInOllama(t.Context(), port)
	require.ErrorContains(t, err, "ollama on port")
}

func TestSameModel(t *testing.T) {
	t.Parallel()
	for _, same := range [][2]string{{"qwen2.5:7b", "Qwen2.5:7b"}, {"llama3", "llama3:latest"}, {"hf.co/a/b", "hf.co/a/b:latest"}} {
		require.True(t, SameModel(same[0], same[1]), same)
	}
	for _, other := range [][2]string{{"qwen2.5:7b", "qwen2.5:14b"}, {"llama3", "llama3:8b"}} {
		require.False(t, SameModel(other[0], other[1]), other)
	}
}
