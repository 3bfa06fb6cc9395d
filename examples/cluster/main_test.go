package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

// TestMain is the wrapper when a node starts it, as main is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == slurm.NodeWord {
		os.Exit(slurm.RunOnNode(os.Args[2:], os.Stdout))
	}
	os.Exit(m.Run())
}

// A test supplies its own cluster: two nodes with eight GPUs each, in seconds.
func TestBenchmarksRunOnACluster(t *testing.T) {
	t.Parallel()
	if err := slurmtest.Missing(slurmtest.Config{}); err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_SLURM"), "Slurm: %v", err)
		t.Skipf("SKIPPED for want of Slurm: %v", err)
	}
	dir, err := os.MkdirTemp("", "slurm") // short, because sockets are in it
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	cluster, err := slurmtest.Start(t.Context(), dir, slurmtest.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Close()) }()

	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	kitt, err := runnertest.BuildFakeKitt(t.TempDir())
	require.NoError(t, err)
	server.AddAgent("login-1")
	var tests []string
	for range 3 { // of which two have room at once
		id, _, err := server.Launch("login-1", "fake:lines.3")
		require.NoError(t, err)
		tests = append(tests, id)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, options{
			server: server.URL, name: "login-1", dir: t.TempDir(), partition: slurmtest.Partition, gpus: 8, kitt: kitt,
			commands: append([]string{"PATH=" + os.Getenv("PATH")}, cluster.Env()...),
		})
	}()
	for _, id := range tests {
		require.NoError(t, server.WaitForEnd(ctx, id))
		row, _ := server.Test(id)
		require.Equal(t, "completed", row.Status, row.Error)
		require.Contains(t, strings.Join(server.Lines(id), "\n"), "line 2")
	}
	stop()
	require.NoError(t, <-done)
}
