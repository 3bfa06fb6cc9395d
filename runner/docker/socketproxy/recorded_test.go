package socketproxy

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/engine.requests")

// TestRecordedRequests replays what the docker command 28.2 sends for the commands of
// KITT's DockerManager, as it was recorded in front of an engine of API 1.41. IDs, the
// registry and the model's path are the test's. What reaches the engine is compared with
// testdata/engine.requests.
func TestRecordedRequests(t *testing.T) {
	t.Parallel()
	model := t.TempDir()
	s, p := newProxy(t, func(p *Policy) { p.Model = model })
	text, err := os.ReadFile("testdata/kitt.requests")
	require.NoError(t, err)
	for line := range strings.Lines(strings.ReplaceAll(string(text), "MODEL", model)) {
		method, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		uri, body, _ := strings.Cut(rest, " ")
		if strings.Contains(uri, "/exec/") && strings.HasSuffix(uri, "/start") {
			body = strings.Replace(body, `"Detach":false`, `"Detach":true`, 1) // a test has no connection to upgrade
		}
		status, answer := ask(p, method, uri, body)
		require.Less(t, status, 300, "%s %s: %s", method, uri, answer)
	}
	var got strings.Builder
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.got {
		got.WriteString(strings.TrimSpace(r.method+" "+r.uri+" "+strings.ReplaceAll(r.body, model, "MODEL")) + "\n")
	}
	if *update {
		require.NoError(t, os.WriteFile("testdata/engine.requests", []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile("testdata/engine.requests")
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}
