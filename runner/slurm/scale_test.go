package slurm_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

var waiting = flag.Int("waiting", 30, "how many jobs wait in TestManyWaitingJobs")

// All jobs that wait cost one call of squeue per poll.
func TestManyWaitingJobs(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	_, err := c.Output(t.Context(), "sbatch", "--gres=gpu:8", "--output=/dev/null", "--wrap", "sleep 10000")
	require.NoError(t, err)
	cfg := config(t, c, dir)
	cfg.GPUs, cfg.Poll = 8, 2*time.Second
	log := filepath.Join(t.TempDir(), "calls")
	shim(t, &cfg, "squeue", `date +%s.%N >>`+log+`; exec /usr/bin/squeue "$@"`)
	r := newRunner(t, cfg)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var (
		all  sync.WaitGroup
		told atomic.Int64
	)
	begun := time.Now()
	for range *waiting {
		job, err := newJob(dir, "fake:lines=1")
		require.NoError(t, err)
		all.Go(func() {
			_, err := r.Run(ctx, job, &sayOnce{told: &told})
			if context.Cause(ctx) == nil {
				t.Errorf("a job that waits has ended: %v", err)
			}
		})
	}
	for told.Load() < int64(*waiting) { // a thousand take minutes
		select {
		case <-t.Context().Done():
			require.Fail(t, "the test has ended")
		case <-time.After(100 * time.Millisecond):
		}
	}
	submitted := time.Since(begun)
	before := calls(t, log)
	// The time that passes here is what is counted in: five polls.
	time.Sleep(5 * cfg.Poll)
	polls := calls(t, log) - before
	t.Logf("%d jobs submitted and seen in %v; then %d calls of squeue in 5 polls", *waiting, submitted.Round(time.Second), polls)
	require.LessOrEqual(t, polls, 6)
	stop(runner.ErrDetach)
	all.Wait()
}

// calls returns how often the shim was called.
func calls(t *testing.T, log string) int {
	t.Helper()
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	return strings.Count(string(text), "\n")
}

// sayOnce counts its job once it is said that it waits.
type sayOnce struct {
	once sync.Once
	told *atomic.Int64
}

func (*sayOnce) WriteOutput([]byte, time.Time, runner.Position) error { return nil }

func (o *sayOnce) WriteMessage(text string) error {
	if strings.Contains(text, "waiting in Slurm's queue") {
		o.once.Do(func() { o.told.Add(1) })
	}
	return nil
}

// manyJobs puts an squeue in front that answers with n jobs, one in fifty of them r's.
func manyJobs(t testing.TB, cfg *slurm.Config, n int) {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for i := range n {
		name := "somebody-elses"
		if i%50 == 0 {
			name = fmt.Sprintf("kitt-gpu_1-000000000000-%d", i)
		}
		fmt.Fprintf(&text, "%d|PENDING|Resources|2026-11-29T14:05:00|2026-11-29T11:33:37|1:00:00||%s\n", i+1, name)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "answer"), []byte(text.String()), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squeue"), []byte("#!/bin/sh\nexec cat "+dir+"/answer\n"), 0o700))
	cfg.Commands = []string{"PATH=" + dir + ":/usr/bin:/bin"}
}

// BenchmarkPoll50000 is one poll of a cluster with 50,000 jobs of one user.
func BenchmarkPoll50000(b *testing.B) {
	cfg := slurm.Config{Owner: "gpu-1", SharedDir: b.TempDir(), Wrapper: wrapper}
	manyJobs(b, &cfg, 50_000)
	r, err := slurm.New(cfg)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Sweep(b.Context(), func(string) bool { return true }, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// An answer about 50,000 jobs is within the limit of what is read of a command, and a
// longer one is refused.
func TestAnswersAreLimited(t *testing.T) {
	t.Parallel()
	cfg := slurm.Config{Owner: "gpu-1", SharedDir: t.TempDir(), Wrapper: wrapper}
	manyJobs(t, &cfg, 50_000)
	require.NoError(t, newRunner(t, cfg).CheckStart(t.Context()))
	dir, _, _ := strings.Cut(strings.TrimPrefix(cfg.Commands[0], "PATH="), ":")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squeue"), []byte("#!/bin/sh\nexec head -c 70000000 /dev/zero\n"), 0o700))
	require.ErrorContains(t, newRunner(t, cfg).CheckStart(t.Context()), "more than")
}
