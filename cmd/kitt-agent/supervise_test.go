package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

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
