package kittapitest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange is one recorded request and its answer; see testdata/wire/README.md.
type exchange struct {
	Name   string
	Server struct {
		AuthTokenConfigured bool `json:"auth_token_configured"`
	}
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         json.RawMessage
		RawBody      *string `json:"raw_body"`
		BodyBase64   string  `json:"body_base64"`
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    any
		Text    string
	}
}

// TestContract replays what was recorded of the real server, all of it and in
// its order: the double answers with the same status, with a body of the same
// shape, and with the same values where these don't change from run to run. Not
// in testdata are the recordings of what the double leaves out: campaigns, and
// the database that a bad report locks.
func TestContract(t *testing.T) {
	open, err := NewServer(Config{BuildContext: make([]byte, 5000)})
	require.NoError(t, err)
	defer open.Close()
	locked, err := NewServer(Config{AuthToken: "servertoken", BuildContext: make([]byte, 5000)})
	require.NoError(t, err)
	defer locked.Close()
	files, err := filepath.Glob("testdata/wire/*.json")
	require.NoError(t, err)
	require.Len(t, files, 176)
	sort.Strings(files)
	ids := map[string]string{} // recorded ids, and ours in their place
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var x exchange
		require.NoError(t, json.Unmarshal(text, &x), file)
		number := filepath.Base(file)[:3]
		srv := open
		if x.Server.AuthTokenConfigured {
			srv = locked
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			if number == "098" { // the rotation before it is not on file
				require.NotEmpty(t, open.RotateToken("gpu-03"))
			}
			status, kind, answer := send(t, srv.URL, x, ids)
			require.Equal(t, x.Response.Status, status, "%s", answer)
			require.Equal(t, mediaType(x.Response.Headers["Content-Type"]), mediaType(kind))
			if x.Response.Body != nil && mediaType(kind) == "application/json" {
				got, err := runner.DecodeLenient(answer)
				require.NoError(t, err)
				learn(ids, x.Response.Body, got)
				requireSame(t, "", x.Response.Body, got)
			}
			if number == "044" { // a heartbeat that drains the queue is not on file
				drain(t, srv, "gpu-01")
			}
		})
	}
}

// drain takes what is queued for an agent.
func drain(t *testing.T, s *Server, name string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.names[name]
	require.NotNil(t, a)
	for next := a.next(); next != nil; next = a.next() {
		next.Status = "dispatched"
	}
}

func mediaType(kind string) string {
	kind, _, _ = strings.Cut(kind, ";")
	return kind
}

// send makes a recorded request, with our ids in place of the recorded ones.
func send(t *testing.T, url string, x exchange, ids map[string]string) (status int, kind string, answer []byte) {
	t.Helper()
	path := replaceIDs(ids, x.Request.Path)
	body := replaceIDs(ids, string(x.Request.Body))
	switch {
	case x.Request.RawBody != nil:
		body = *x.Request.RawBody
		if strings.HasSuffix(body, " bytes)") {
			body = `{"line": "` + strings.Repeat("x", 1<<20) + `"}` // was cut on file
		}
	case x.Request.BodyBase64 != "":
		raw, err := base64.StdEncoding.DecodeString(x.Request.BodyBase64)
		require.NoError(t, err)
		body = string(raw)
	}
	req, err := http.NewRequestWithContext(t.Context(), x.Request.Method, url+path, strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range x.Request.Headers {
		value = strings.ReplaceAll(value, "<AGENT_TOKEN>", "agent-secret-token")
		value = strings.ReplaceAll(value, "<SERVER_TOKEN>", "servertoken")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.True(t, resp.Close, "every answer closes its connection")
	answer, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer
}

var idText = regexp.MustCompile(`\b[0-9a-f]{16}\b`)

func replaceIDs(ids map[string]string, text string) string {
	return idText.ReplaceAllStringFunc(text, func(id string) string {
		if ours, ok := ids[id]; ok {
			return ours
		}
		return id
	})
}

// learn notes which of our ids stands for which recorded one.
func learn(ids map[string]string, want, got any) {
	switch want := want.(type) {
	case string:
		if ours, ok := got.(string); ok && idText.MatchString(want) && len(want) == 16 {
			ids[want] = ours
		}
	case map[string]any:
		if m, ok := got.(map[string]any); ok {
			for key, v := range want {
				learn(ids, v, m[key])
			}
		}
	case []any:
		if list, ok := got.([]any); ok {
			for i := range min(len(want), len(list)) {
				learn(ids, want[i], list[i])
			}
		}
	}
}

// changing are the fields whose values follow from ids, tokens, clocks and the
// order of sets.
var changing = []string{
	"id", "agent_id", "command_id", "test_id", "result_id", "created_at", "started_at", "completed_at", "timestamp",
	"last_heartbeat", "registered_at", "token", "token_prefix", "sha256", "error", "total", "pages",
}

// requireSame checks that got has the recorded shape, and the recorded values
// where they do not change from run to run.
func requireSame(t *testing.T, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		require.IsType(t, want, got, path)
		m := got.(map[string]any)
		for key, v := range want {
			require.Contains(t, m, key, path)
			requireSame(t, path+"."+key, v, m[key])
		}
		for key := range m {
			require.Contains(t, want, key, "%s has a key more", path)
		}
	case []any:
		require.IsType(t, want, got, path)
		list := got.([]any)
		require.Len(t, list, len(want), path)
		for i := range want {
			requireSame(t, path, want[i], list[i])
		}
	default:
		require.IsType(t, want, got, path)
		key := path[strings.LastIndex(path, ".")+1:]
		if !slices.Contains(changing, key) {
			require.Equal(t, want, got, path)
		}
		if key == "created_at" {
			require.Equal(t, strings.Contains(want.(string), "T"), strings.Contains(got.(string), "T"), "the form of the time")
		}
	}
}
