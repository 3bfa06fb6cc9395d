package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// TestSuperviseContainer asks the program whether it can run in front of a
// benchmark in its container, as the agent does.
func TestSuperviseContainer(t *testing.T) {
	var out bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"supervise-container", "-check"}, nil, &out, io.Discard))
	require.Equal(t, supervisor.CheckWord+"\n", out.String())
	require.Equal(t, supervisor.StatusFailed, run(t.Context(), []string{"supervise-container", "-dir", "/none"}, nil, &out, io.Discard))
}

// TestSocketProxy asks the program whether it can serve the engine to a benchmark.
func TestSocketProxy(t *testing.T) {
	var out bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"socket-proxy", "-check"}, nil, &out, io.Discard))
	require.Equal(t, socketproxy.CheckWord+"\n", out.String())
	require.NotZero(t, run(t.Context(), []string{"socket-proxy", "-dir", "/none"}, nil, &out, io.Discard))
	require.Contains(t, out.String(), "no such file")
}
