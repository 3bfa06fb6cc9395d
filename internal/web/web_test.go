package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/internal/web"
)

// get asks h for a path.
func get(t *testing.T, h http.Handler, path, known string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("If-None-Match", known)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFilesAreSentOnceForEachContent(t *testing.T) {
	t.Parallel()
	files := web.Secure(http.StripPrefix("/static/", web.Files(fstest.MapFS{"own.js": {Data: []byte("1")}, "log.js": {Data: []byte("other")}})))
	first := get(t, files, "/static/live.js", "")
	require.Equal(t, http.StatusOK, first.Code)
	require.Contains(t, first.Header().Get("Content-Type"), "javascript")
	require.Contains(t, first.Header().Get("Content-Security-Policy"), "default-src 'self'")
	require.NotContains(t, first.Header().Get("Content-Security-Policy"), "unsafe")
	require.Equal(t, http.StatusNotModified, get(t, files, "/static/live.js", first.Header().Get("ETag")).Code)
	require.Equal(t, http.StatusOK, get(t, files, "/static/own.js", first.Header().Get("ETag")).Code)
	require.Equal(t, "other", get(t, files, "/static/log.js", "").Body.String(), "a site may replace a file")
	for _, path := range []string{"/static/", "/static/../web.go", "/static/web.go"} {
		require.Equal(t, http.StatusNotFound, get(t, files, path, "").Code, path)
	}
}

// What a result holds is bounded on a page, and is text there.
func TestAResultOfAnySizeIsShown(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 5000 {
		many[strings.Repeat("x", i)] = float64(i)
	}
	o := web.NewOutcome(map[string]any{"results": []any{map[string]any{"test_name": "<b>", "metrics": map[string]any{"all": many, "tps": 1.5, "none": nil}}}})
	require.Len(t, o.Benchmarks[0].More[0].Metrics, 1001)
	require.Equal(t, "4000 more figures", o.Benchmarks[0].More[0].Metrics[1000].Value)
	require.InDelta(t, 1.5, o.Figure("tps"), 0)
	pages := web.ParsePages(fstest.MapFS{
		"pages/layout.html": {Data: []byte(`{{define "brand"}}x{{end}}{{define "head"}}{{end}}{{define "nav"}}{{end}}{{define "foot"}}{{end}}`)},
		"pages/one.html":    {Data: []byte(`{{define "title"}}t{{end}}{{define "content"}}{{template "outcome" .}}{{end}}`)},
	}, nil, "one")
	w := httptest.NewRecorder()
	pages.Show(w, http.StatusOK, "one", o)
	require.Contains(t, w.Body.String(), "&lt;b&gt;")
	require.Contains(t, w.Body.String(), "<dd>–</dd>")
}

func FuzzOutcome(f *testing.F) {
	f.Add(`{"results": [{"test_name": "a", "metrics": {"ttft_ms": {"p50": 1}, "l": [1, "x", null]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var data map[string]any
		if json.Unmarshal([]byte(text), &data) != nil {
			return
		}
		for _, b := range web.NewOutcome(data).Benchmarks {
			for _, m := range b.Metrics {
				web.MetricText(m.Value)
			}
		}
	})
}
