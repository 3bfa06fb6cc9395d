package kittapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/profile"
)

// The answers are those of KITT 1.7.0.
func TestEngineProfile(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api/v1/engines/profiles/0123456789abcdef":
			_, _ = w.Write([]byte(`{"build_config":{},"created_at":"2026-11-29T10:00:00.000001","description":"","engine":"llama_cpp","id":"0123456789abcdef",` +
				`"mode":"docker","name":"high-ctx","runtime_config":{"n_ctx":8192},"updated_at":"2026-11-29T10:00:00.000001"}` + "\n"))
		case "/api/v1/engines/profiles/odd":
			_, _ = w.Write([]byte(`{"id":"odd"}`))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":"Profile not found"}` + "\n"))
		}
	}))
	defer srv.Close()
	c, err := kittapi.New(kittapi.Config{URL: srv.URL})
	require.NoError(t, err)
	p, err := c.EngineProfile(t.Context(), "0123456789abcdef")
	require.NoError(t, err)
	require.Equal(t, "high-ctx", p.Name)
	require.Equal(t, "llama_cpp", p.Engine)
	require.JSONEq(t, `{"n_ctx":8192}`, string(p.Runtime))
	require.False(t, p.Builds())
	_, err = c.EngineProfile(t.Context(), "gone")
	require.ErrorIs(t, err, profile.ErrNotFound)
	_, err = c.EngineProfile(t.Context(), "")
	require.ErrorIs(t, err, profile.ErrNotFound)
	_, err = c.EngineProfile(t.Context(), "odd")
	require.Error(t, err)
	require.NotErrorIs(t, err, profile.ErrNotFound)
}
