package kittapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/reporter"
)

// TestWhatBlocksARequest tells answers about one request from those that ask for
// patience or a login.
func TestWhatBlocksARequest(t *testing.T) {
	t.Parallel()
	const jsonKind, html = "application/json", "text/html"
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		code   int // 0 if it blocks nothing
	}{
		"too large":         {wrote(413, html, "<h1>Too large</h1>"), 413},
		"too large in JSON": {wrote(413, jsonKind, `{"error":"too large"}`), 413},
		"firewall":          {wrote(403, html, "<h1>Blocked</h1>"), 403},
		"gateway's JSON":    {wrote(403, jsonKind, `{"message":"Forbidden"}`), 403},
		"page with 200":     {wrote(200, html, "<h1>Blocked</h1>"), 200},
		"legal":             {wrote(451, html, ""), 451},
		"login":             {wrote(401, html, ""), 0},
		"proxy's login":     {wrote(407, html, ""), 0},
		"slow down":         {wrote(429, html, ""), 0},
		"bad gateway":       {wrote(502, html, ""), 0},
		"the server's 500":  {wrote(500, html, ""), 0},
		"redirect":          {wrote(302, html, "", "Location", "/login"), 0},
		"cut short":         {wrote(200, jsonKind, `{"ok":tr`), 0},
		"the server's own":  {wrote(403, jsonKind, `{"error":"Invalid token"}`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tt.answer)
			defer srv.Close()
			c, err := kittapi.New(kittapi.Config{URL: srv.URL})
			require.NoError(t, err)
			err = c.ReportLog(t.Context(), "t", "x")
			blocked, ok := errors.AsType[*reporter.BlockedError](err)
			require.Equal(t, tt.code != 0, ok, "%v", err)
			if ok {
				require.Equal(t, tt.code, blocked.Code)
			}
		})
	}
}
