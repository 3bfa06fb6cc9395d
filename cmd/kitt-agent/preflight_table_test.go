package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/preflight"
)

func TestWriteChecks(t *testing.T) {
	t.Parallel()
	results := []preflight.Result{
		{Name: "docker", Required: true, Status: preflight.OK, Details: "engine 28.2.2, API 1.50"},
		{Name: "docker gpu access", Required: true, Status: preflight.Fail, Details: "the toolkit\nis not\x1b[31m set up", Fix: "nvidia-ctk <now>"},
		{Name: "nfs utilities", Status: preflight.Warn, Details: "mount.nfs is not installed", Fix: "sudo apt-get install nfs-common"},
		{Name: "größe", Status: preflight.OK, Details: "fine", Fix: "not shown"},
	}
	var table bytes.Buffer
	require.NoError(t, writeChecks(&table, results))
	golden(t, "preflight-table.txt", table.Bytes())
	require.Equal(t, "fail  docker gpu access: the toolkit is not [31m set up", checkLine(results[1]))
}
