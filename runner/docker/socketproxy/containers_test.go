package socketproxy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOwnContainers reaches them by name and ID, and nobody else's.
func TestOwnContainers(t *testing.T) {
	t.Parallel()
	for request, want := range map[string]string{
		"POST /v1.41/containers/" + mine + "/start?evil=1":                    "/v1.41/containers/" + mine + "/start",
		"POST /v1.41/containers/kitt-1/stop?t=10&signal=SIGTERM":              "/v1.41/containers/" + mine + "/stop?signal=SIGTERM&t=10",
		"POST /v1.41/containers/aaaa/kill":                                    "/v1.41/containers/" + mine + "/kill",
		"POST /v1.41/containers/" + mine + "/wait?condition=next-exit":        "/v1.41/containers/" + mine + "/wait?condition=next-exit",
		"DELETE /v1.41/containers/" + mine + "?force=1&v=1&link=1":            "/v1.41/containers/" + mine + "?force=1&v=1",
		"GET /v1.41/containers/" + mine + "/logs?stdout=1&stderr=1&tail=50&x": "/v1.41/containers/" + mine + "/logs?stderr=1&stdout=1&tail=50",
		"GET /exec/" + myExec + "/json":                                       "/exec/" + myExec + "/json",
	} {
		s, p := newProxy(t, nil)
		method, uri, _ := strings.Cut(request, " ")
		status, body := ask(p, method, uri, "")
		require.Equal(t, http.StatusOK, status, "%s: %s", request, body)
		require.Equal(t, want, s.last().uri, request)
	}
	s, p := newProxy(t, nil)
	for _, ref := range []string{theirs, "theirs", kittID, "nobody", "bbbb"} {
		for _, request := range []string{
			"GET /containers/%/json", "GET /containers/%/logs", "POST /containers/%/start", "POST /containers/%/stop", "POST /containers/%/kill",
			"POST /containers/%/wait", "DELETE /containers/%", "POST /containers/%/exec",
		} {
			method, uri, _ := strings.Cut(strings.Replace(request, "%", ref, 1), " ")
			status, body := ask(p, method, uri, `{"Cmd":["id"]}`)
			require.Equal(t, http.StatusNotFound, status, request)
			require.Contains(t, body, "No such container: "+ref)
		}
	}
	for _, id := range []string{noExID, "x", strings.Repeat("f", 64)} {
		status, _ := ask(p, "POST", "/exec/"+id+"/start", `{"Detach":true}`)
		require.Equal(t, http.StatusNotFound, status, id)
		status, _ = ask(p, "GET", "/exec/"+id+"/json", "")
		require.Equal(t, http.StatusNotFound, status, id)
	}
	require.Empty(t, s.changes())
}

// TestExec carries a command over without what it may not have.
func TestExec(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, nil)
	status, body := ask(p, "POST", "/containers/kitt-1/exec", `{"cmd":["tee","/tmp/Modelfile"],"AttachStdin":true,"Unknown":1}`)
	require.Equal(t, 200, status, body)
	require.Equal(t, "/containers/"+mine+"/exec", s.last().uri)
	require.JSONEq(t, `{"User":"","Privileged":false,"Tty":false,"AttachStdin":true,"AttachStderr":false,"AttachStdout":false,
		"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["tee","/tmp/Modelfile"]}`, s.last().body)
	status, _ = ask(p, "POST", "/containers/kitt-1/exec", `{"Cmd":["id"],"privileged":false,"PRIVILEGED":true}`)
	require.Equal(t, 403, status)
	status, body = ask(p, "POST", "/exec/"+myExec+"/start", `{"Detach":false}`)
	require.Equal(t, 400, status)
	require.Contains(t, body, "Upgrade: tcp")
	status, _ = ask(p, "POST", "/exec/"+myExec+"/start", `{"Detach":true}`)
	require.Equal(t, 200, status)
}

// TestList shows a benchmark its own containers, whatever it asks for.
func TestList(t *testing.T) {
	t.Parallel()
	s, p := newProxy(t, nil)
	s.list = `[{"Id":"1","Labels":{"io.kitt.engine":"job-1"}},{"Id":"2","Labels":{"io.kitt.engine":"job-2"}},{"Id":"3"},{"Id":"4","labels":{"x":"y"}}]`
	for filters, want := range map[string]string{
		"":                                  `{"label":{"io.kitt.engine=job-1":true}}`,
		`{"name":{"kitt-":true}}`:           `{"label":{"io.kitt.engine=job-1":true},"name":{"kitt-":true}}`,
		`{"label":["a=b"],"id":["x"]}`:      `{"id":{"x":true},"label":{"a=b":true,"io.kitt.engine=job-1":true}}`,
		`{"label":{"io.kitt.engine":true}}`: `{"label":{"io.kitt.engine":true,"io.kitt.engine=job-1":true}}`,
	} {
		status, body := ask(p, "GET", "/containers/json?all=1&filters="+url.QueryEscape(filters), "")
		require.Equal(t, 200, status, body)
		require.JSONEq(t, `[{"Id":"1","Labels":{"io.kitt.engine":"job-1"}}]`, body)
		uri, err := url.Parse(s.last().uri)
		require.NoError(t, err)
		require.Equal(t, want, uri.Query().Get("filters"))
		require.Equal(t, "1", uri.Query().Get("all"))
	}
	for filters, status := range map[string]int{`{"volume":["/"]}`: 403, `{`: 400, `{"id":1}`: 400, `[]`: 400} {
		got, _ := ask(p, "GET", "/containers/json?filters="+url.QueryEscape(filters), "")
		require.Equal(t, status, got, filters)
	}
}

// TestInfo leaves out what is nobody's business.
func TestInfo(t *testing.T) {
	t.Parallel()
	_, p := newProxy(t, nil)
	status, body := ask(p, "GET", "/v1.41/info", "")
	require.Equal(t, 200, status)
	require.Contains(t, body, `"ServerVersion":"20.10"`)
	require.NotContains(t, body, "secret")
	require.NotContains(t, body, "Containers")
	status, body = ask(p, "POST", "/v1.41/build?t=kitt/llama-cpp:spark", strings.Repeat("x", 1000))
	require.Equal(t, 403, status)
	require.Contains(t, body, "docker build -t kitt/llama-cpp:spark")
}
