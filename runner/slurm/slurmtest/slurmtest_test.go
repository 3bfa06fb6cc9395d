package slurmtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a cluster, or skips the test where Slurm is not installed.
func start(t *testing.T, cfg slurmtest.Config) *slurmtest.Cluster {
	t.Helper()
	if err := slurmtest.Missing(cfg); err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_SLURM"), "Slurm: %v", err)
		t.Skipf("SKIPPED for want of Slurm: %v", err)
	}
	dir, err := os.MkdirTemp("", "slurm")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c, err := slurmtest.Start(t.Context(), dir, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// awaitFile returns what is in the file once there is something.
func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > 0 {
			return string(text)
		}
		select {
		case <-t.Context().Done():
			require.Fail(t, "the test has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestAClusterRunsAJobWithGPUs(t *testing.T) {
	t.Parallel()
	c := start(t, slurmtest.Config{})
	out := filepath.Join(c.Dir(), "out")
	_, err := c.Output(t.Context(), "sbatch", "--parsable", "--gres=gpu:2", "--output="+out, "--wrap", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
	require.NoError(t, err)
	require.Equal(t, "n1 0,1\n", awaitFile(t, out))

	nodes, err := c.Output(t.Context(), "sinfo", "-h", "-N", "-o", "%N %G")
	require.NoError(t, err)
	require.Equal(t, "n1 gpu:h200:8\nn2 gpu:h200:8\n", nodes)
}

func TestAKilledControllerComesBack(t *testing.T) {
	t.Parallel()
	c := start(t, slurmtest.Config{Accounting: true})
	require.NoError(t, c.Kill(slurmtest.Controller))
	_, err := c.Output(t.Context(), "squeue", "-h")
	require.Error(t, err)
	require.NoError(t, c.Restart(slurmtest.Controller))
	require.NoError(t, c.Await(t.Context()))
	out := filepath.Join(c.Dir(), "out")
	id, err := c.Output(t.Context(), "sbatch", "--parsable", "--account="+slurmtest.Account, "--output="+out, "--wrap", "echo ran")
	require.NoError(t, err)
	require.Equal(t, "ran\n", awaitFile(t, out))
	name, err := c.Output(t.Context(), "sacct", "-n", "-X", "-P", "-o", "Account", "-j", strings.TrimSpace(id))
	require.NoError(t, err)
	require.Equal(t, slurmtest.Account+"\n", name)
}

func TestAFrozenControllerRefusesNobody(t *testing.T) {
	t.Parallel()
	c := start(t, slurmtest.Config{Nodes: 1})
	require.NoError(t, c.Freeze(slurmtest.Controller))
	_, err := c.Output(t.Context(), "squeue", "-h")
	require.ErrorContains(t, err, "timed out")
	require.NoError(t, c.Thaw(slurmtest.Controller))
	require.NoError(t, c.Await(t.Context()))
}

// A test names the cluster's own daemons, and others are refused.
func TestUnknownDaemons(t *testing.T) {
	t.Parallel()
	c := start(t, slurmtest.Config{Nodes: 1, GPUs: 1})
	require.ErrorContains(t, c.Kill(slurmtest.Accounting), "no slurmdbd")
	require.NoError(t, c.Kill(slurmtest.Node("n1")))
	require.ErrorContains(t, c.Freeze(slurmtest.Node("n1")), "does not run")
	require.NoError(t, c.Close())
	require.NoError(t, c.Close(), "twice")
}
