package slurm_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	node, err := r.Probe(t.Context())
	require.NoError(t, err)
	require.Contains(t, []string{"n1", "n2"}, node)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	nodes, err := r.Nodes(t.Context())
	require.NoError(t, err)
	require.Len(t, nodes, 2)
	require.Equal(t, slurm.Node{Name: "n1", Arch: "x86_64", CPUs: 64, MemoryBytes: 1000 << 20, GPUs: 8, GPUType: "h200", State: nodes[0].State}, nodes[0])
	version, err := r.Version(t.Context())
	require.NoError(t, err)
	require.Contains(t, version, "slurm")
	require.NoError(t, r.CheckQueue(t.Context()))
}

// A probe tells apart a directory that is not shared and a partition without a node.
func TestAProbeThatFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := ownCluster(t, slurmtest.Config{Nodes: 1, Hidden: dir})
	r := newRunner(t, config(t, c, dir))
	_, err := r.Probe(t.Context())
	require.ErrorContains(t, err, "mount slurm.shared_dir on all nodes")

	_, err = c.Output(t.Context(), "scontrol", "update", "nodename=n1", "state=drain", "reason=test")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = r.Probe(ctx)
	require.ErrorContains(t, err, "waited in vain")
	left, err := c.Output(t.Context(), "squeue", "-h")
	require.NoError(t, err)
	require.Empty(t, left)
}

// A program of another version is another file.
func TestInstall(t *testing.T) {
	t.Parallel()
	dir, program := t.TempDir(), filepath.Join(t.TempDir(), "kitt-supervise")
	require.NoError(t, os.WriteFile(program, []byte("one"), 0o755))
	first, err := slurm.Install(dir, program)
	require.NoError(t, err)
	again, err := slurm.Install(dir, program)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NoError(t, os.WriteFile(program, []byte("two"), 0o755))
	second, err := slurm.Install(dir, program)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	for path, want := range map[string]string{first: "one", second: "two"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o755, info.Mode().Perm())
	}
}

// What a node prints of itself is kept, and a model that a program fetches is the job's.
func TestANodeIsDescribedAndFetchesTheModel(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	released := filepath.Join(dir, "released")
	cfg := config(t, c, dir)
	cfg.Describe = []string{"/bin/echo", `{"hostname":"n1"}`}
	cfg.Fetch = []string{"/bin/sh", "-c", `read job; echo "$job" | sed 's/"Model":"[^"]*"/"Model":"fake:lines=3"/'; cat; touch ` + released}
	s := run(t, newRunner(t, cfg), dir, "absent")
	require.NoError(t, s.ended())
	require.Equal(t, lines(3), s.out.Text())
	machine, err := os.ReadFile(filepath.Join(s.job.Dir, "slurm/machine.json"))
	require.NoError(t, err)
	require.JSONEq(t, `{"hostname":"n1"}`, string(machine))
	status, ok := slurm.ReadStatus(s.job.Dir)
	require.True(t, ok)
	require.Equal(t, s.id(), status.ID)
}
