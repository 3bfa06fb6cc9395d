package socketproxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]route{
		"HEAD /_ping":                   {action: actPing},
		"GET /v1.41/version":            {action: actVersion, version: "/v1.41"},
		"GET /v1.50/info":               {action: actInfo, version: "/v1.50"},
		"GET /images/a/b/c:1/json":      {action: actImageInspect, ref: "a/b/c:1"},
		"POST /v1.41/images/create":     {action: actPull, version: "/v1.41"},
		"POST /v1.41/build":             {action: actBuild, version: "/v1.41"},
		"POST /v1.40/containers/create": {action: actCreate, version: "/v1.40"},
		"GET /containers/json":          {action: actList},
		"GET /containers/a.b-c_d/json":  {action: actInspect, ref: "a.b-c_d"},
		"GET /containers/x/logs":        {action: actLogs, ref: "x"},
		"POST /containers/x/start":      {action: actStart, ref: "x"},
		"POST /containers/x/stop":       {action: actStop, ref: "x"},
		"POST /containers/x/kill":       {action: actKill, ref: "x"},
		"POST /containers/x/wait":       {action: actWait, ref: "x"},
		"DELETE /containers/x":          {action: actRemove, ref: "x"},
		"POST /containers/x/exec":       {action: actExecCreate, ref: "x"},
		"POST /exec/x/start":            {action: actExecStart, ref: "x"},
		"GET /exec/x/json":              {action: actExecInspect, ref: "x"},
	} {
		method, path, _ := strings.Cut(request, " ")
		got, err := parseRoute(method, path)
		require.NoError(t, err, request)
		require.Equal(t, want, got, request)
	}
}

// TestDeniedRoutes has what an engine understands and a benchmark may not use, and what
// an engine may read otherwise than the proxy.
func TestDeniedRoutes(t *testing.T) {
	t.Parallel()
	_, p := newProxy(t, nil)
	for _, request := range []string{
		"POST /containers/x/attach", "POST /containers/x/update", "POST /containers/x/rename", "GET /containers/x/archive",
		"PUT /containers/x/archive", "GET /containers/x/export", "POST /containers/x/restart", "GET /containers/x/top",
		"POST /containers/prune", "POST /commit", "GET /events", "GET /images/json", "DELETE /images/x", "POST /images/load",
		"POST /images/x/tag", "POST /images/x/push", "POST /volumes/create", "GET /volumes", "GET /networks", "POST /networks/create",
		"POST /networks/x/connect", "GET /secrets", "POST /swarm/init", "POST /plugins/pull", "POST /session", "POST /grpc",
		"POST /auth", "GET /system/df", "POST /build/prune", "GET /distribution/x/json", "POST /exec/x/resize",
		"GET /v1.41/libpod/containers/json", "POST /v4.0.0/libpod/containers/create",
		"GET /containers/x%2Fy/json", "GET /containers/../info", "GET /containers/./x/json", "GET //containers/json", "GET /containers//json",
		"GET /containers/json/", "GET /v1.41/v1.41/info", "GET http://docker/info", "GET *", "GET ", "post /containers/create",
		"GET /containers/x/y/json", "GET /containers/-x/json", "GET /containers/x;y/json", "GET /containers/x\\y/json",
		"GET /images/../containers/json", "GET /images/x//json", "GET /" + strings.Repeat("a", 2000),
	} {
		method, path, _ := strings.Cut(request, " ")
		r := httpRequest(method, path)
		w := &recorder{}
		p.ServeHTTP(w, r)
		require.Equal(t, http.StatusForbidden, w.status, request)
		require.Contains(t, w.body.String(), `{"message":"kitt-agent's policy: `, request)
	}
	for _, path := range []string{"/v1.39/info", "/v1.12/containers/json"} {
		_, err := parseRoute("GET", path)
		require.ErrorContains(t, err, "too old", path)
	}
}

func FuzzRoute(f *testing.F) {
	for _, path := range []string{"/v1.41/containers/x/json", "/images/a/b:1/json", "/exec/x/start", "/%2e%2e/info", "//info"} {
		f.Add("GET", path)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		r, err := parseRoute(method, path)
		if err != nil {
			require.Equal(t, route{}, r)
			return
		}
		require.NotContains(t, path, "%")
		require.NotContains(t, path, "//")
		require.NotContains(t, path+"/", "/../")
		if r.action != actImageInspect {
			require.NotContains(t, r.ref, "/")
		}
	})
}
