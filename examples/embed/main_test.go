package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// TestExample runs the program's agent against a control plane in process.
func TestExample(t *testing.T) {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.AddAgent("embedded")
	id, _, err := server.Launch("embedded", "qwen2.5:7b")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- run(ctx, server.URL, "embedded", t.TempDir(), 0) }()
	require.NoError(t, server.WaitForStatus(ctx, id, "completed"))
	require.Len(t, server.Results(), 1)
	cancel()
	require.NoError(t, <-done)
}
