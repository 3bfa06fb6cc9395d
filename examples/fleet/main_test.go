package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// TestExample runs the program's fleet against a control plane in process.
func TestExample(t *testing.T) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, server.URL, 20, 0, 8))
	require.Contains(t, out.String(), "20 agents: 18 tests completed, 2 failed")
	require.Contains(t, out.String(), ", 0 lost")
	require.Len(t, server.Agents(), 20)
	for _, test := range server.Tests() {
		want := "completed"
		if strings.Contains(test.Agent, "flaky") {
			want = "failed"
		}
		require.Equal(t, want, test.Status, "%s: %s", test.Agent, test.Error)
		require.NotEmpty(t, server.Lines(test.ID))
	}
	require.Len(t, server.Results(), 18)
	require.Empty(t, server.Breaches())
}

// Without a server the program brings its own.
func TestOwnServer(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, "", 3, 0, 8))
	require.Contains(t, out.String(), "3 agents: 3 tests completed, 0 failed")
}
