package slurm_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

// TestMain is the wrapper when a node starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == slurm.NodeWord {
		os.Exit(slurm.RunOnNode(os.Args[2:], os.Stdout))
	}
	// Tests wait for Slurm, and use no processor meanwhile.
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue {
		_ = flag.Set("test.parallel", "10")
	}
	code := m.Run()
	if cluster := common.cluster; cluster != nil {
		if err := cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	for _, dir := range []string{common.dir, common.kitt} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// common is what tests share that break nothing.
var common struct {
	once    sync.Once
	dir     string // of the cluster
	kitt    string // of fakekitt
	cluster *slurmtest.Cluster
	err     error
}

// sharedCluster returns the cluster of all tests that don't break it.
func sharedCluster(t *testing.T) *slurmtest.Cluster {
	t.Helper()
	needSlurm(t, slurmtest.Config{})
	common.once.Do(func() {
		if common.dir, common.err = os.MkdirTemp("", "slurm"); common.err == nil {
			common.cluster, common.err = slurmtest.Start(context.Background(), common.dir, slurmtest.Config{})
		}
	})
	require.NoError(t, common.err)
	return common.cluster
}

// needSlurm skips the test where Slurm is not installed.
func needSlurm(t *testing.T, cfg slurmtest.Config) {
	t.Helper()
	if err := slurmtest.Missing(cfg); err != nil {
		require.NotEqual(t, "1", os.Getenv("KITT_TEST_SLURM"), "Slurm: %v", err)
		t.Skipf("SKIPPED for want of Slurm: %v", err)
	}
}

// ownCluster returns a cluster that the test may break.
func ownCluster(t *testing.T, cfg slurmtest.Config) *slurmtest.Cluster {
	t.Helper()
	needSlurm(t, cfg)
	dir, err := os.MkdirTemp("", "slurm")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	c, err := slurmtest.Start(t.Context(), dir, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// wrapper has nodes start the test's own program.
func wrapper(context.Context) (string, string, error) {
	exe, err := os.Executable()
	return exe, slurm.NodeWord, err
}

var fakeKitt = sync.OnceValues(func() (string, error) {
	var err error
	if common.kitt, err = os.MkdirTemp("", "kitt"); err != nil {
		return "", err
	}
	return runnertest.BuildFakeKitt(common.kitt)
})

// config returns the settings of a runner on the cluster whose shared directory is dir.
func config(t *testing.T, c *slurmtest.Cluster, dir string) slurm.Config {
	t.Helper()
	kitt, err := fakeKitt()
	require.NoError(t, err)
	return slurm.Config{
		Owner: "gpu-1", SharedDir: dir, Wrapper: wrapper, Command: []string{kitt}, Partition: slurmtest.Partition,
		Commands: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/root"}, c.Env()...),
		Poll:     500 * time.Millisecond, Late: 4 * time.Second, Settle: 10 * time.Second,
	}
}

func newRunner(t *testing.T, cfg slurm.Config) *slurm.Runner {
	t.Helper()
	r, err := slurm.New(cfg)
	require.NoError(t, err)
	return r
}

// jobs counts them, for IDs that no other has.
var jobs atomic.Int64

// newJob returns a job below dir whose benchmark is what the model tells fakekitt.
func newJob(dir, model string) (runner.Job, error) {
	id := fmt.Sprintf("job-%d", jobs.Add(1))
	job := runner.Job{
		ID: id, Dir: filepath.Join(dir, id), ResultsDir: filepath.Join(dir, id, "results"),
		Model: model, Engine: "vllm", Suite: "quick", StopGrace: time.Second,
	}
	return job, os.MkdirAll(job.ResultsDir, 0o700)
}

func TestRunnerKeepsTheContract(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	dir := t.TempDir()
	r := newRunner(t, config(t, c, dir))
	require.NoError(t, runnertest.Test(t.Context(), r, func(b runnertest.Behaviour) (runner.Job, error) {
		model := b.Model()
		if b == runnertest.Slow {
			model = "fake:lines=50,delay=150ms" // slower than files are looked at
		}
		return newJob(dir, model)
	}))
}
