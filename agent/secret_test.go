package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
)

// No way of printing, logging or encoding a secret shows it.
func TestSecret(t *testing.T) {
	t.Parallel()
	s := agent.Secret("hunter2")
	var out bytes.Buffer
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb, s)
		fmt.Fprintf(&out, verb, agent.Config{Token: s})
		fmt.Fprintf(&out, verb, map[string]any{"token": &s})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "config", agent.Config{Token: s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "secrets", []agent.Secret{s})
	require.NoError(t, json.NewEncoder(&out).Encode(map[string]any{"a": s, "b": &s}))
	require.NotContains(t, out.String(), "hunter2")
	require.NotContains(t, out.String(), fmt.Sprintf("%x", "hunter2"))
	require.NotContains(t, out.String(), fmt.Sprintf("%X", "hunter2"))
	require.Equal(t, "hunter2", s.Reveal())
	require.Empty(t, agent.Secret("").String())

	var back struct{ Token agent.Secret }
	require.NoError(t, json.Unmarshal([]byte(`{"Token":"hunter2"}`), &back))
	require.Equal(t, s, back.Token)
}
