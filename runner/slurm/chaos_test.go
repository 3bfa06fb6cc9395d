package slurm_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

var (
	rounds = flag.Int("rounds", 2, "rounds of TestChaos, of four jobs each")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the faults of TestChaos")
)

// A verdict counts what went wrong in rounds of faults.
type verdict struct{ jobs, exact, lost, twice, lines, wrong, foreign int }

// TestChaos kills and freezes daemons of a cluster and the agent while jobs run, and
// compares what is returned with what the benchmarks themselves have written. None runs
// twice, no line is missing unreported, no outcome is wrong, no foreign job is touched.
func TestChaos(t *testing.T) {
	t.Parallel()
	if os.Getenv("KITT_TEST_CHAOS") != "1" {
		t.Skip("SKIPPED: it takes minutes, and runs with KITT_TEST_CHAOS=1")
	}
	c, dir := ownCluster(t, slurmtest.Config{Accounting: true, Lines: []string{"MinJobAge=5"}}), t.TempDir()
	random := rand.New(rand.NewPCG(*seed, 0))
	cfg := config(t, c, dir)
	cfg.Deadline, cfg.Settle, cfg.Account = 8*time.Second, 12*time.Second, slurmtest.Account
	// A foreign cancel would show here: it is the only way in which this runner ends jobs.
	cancels := filepath.Join(t.TempDir(), "cancels")
	shim(t, &cfg, "scancel", `echo "$@" >>`+cancels+`; exec /usr/bin/scancel "$@"`)
	kitt := cfg.Command[0]
	cfg.Command = []string{"/bin/sh", "-c", `echo x >>"$0/starts"; exec ` + kitt + ` "$@"`, "{results}", "{args}"}
	var total verdict
	for round := range *rounds {
		chaosRound(t, c, cfg, dir, random, &total)
		t.Logf("round %d, seed %d: %+v", round, *seed, total)
	}
	if text, err := os.ReadFile(cancels); err == nil {
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "--name=kitt-gpu_1-") {
				total.foreign++
			}
		}
	}
	require.Zero(t, total.twice, "runs twice")
	require.Zero(t, total.lines, "unreported lost lines")
	require.Zero(t, total.wrong, "wrong outcomes")
	require.Zero(t, total.foreign, "foreign jobs touched")
}

// A chaosJob is a job and what its benchmark will do.
type chaosJob struct {
	*started
	lines, code int
	cancelled   bool
}

func chaosRound(t *testing.T, c *slurmtest.Cluster, cfg slurm.Config, dir string, random *rand.Rand, total *verdict) {
	agent := newRunner(t, cfg)
	var all []*chaosJob
	for range 4 {
		j := &chaosJob{lines: 5 + random.IntN(40), code: []int{0, 3, 7}[random.IntN(3)]}
		model := fmt.Sprintf("fake:lines=%d,delay=%dms,exit=%d", j.lines, 50+random.IntN(200), j.code)
		j.started = run(t, agent, dir, model)
		all = append(all, j)
	}
	nodes := []string{slurmtest.Node("n1"), slurmtest.Node("n2")}
	for range 2 + random.IntN(3) {
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond) // when is a part of the fault
		node := nodes[random.IntN(2)]
		for _, name := range map[int][]string{
			0: {slurmtest.Controller}, 1: {node}, 2: {slurmtest.Accounting}, 3: {slurmtest.Controller, node}, 4: nil,
		}[random.IntN(5)] {
			frozen := random.IntN(2) == 0
			if frozen {
				require.NoError(t, c.Freeze(name))
			} else {
				require.NoError(t, c.Kill(name))
			}
			time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
			if frozen {
				require.NoError(t, c.Thaw(name))
			} else {
				require.NoError(t, c.Restart(name))
			}
		}
		j := all[random.IntN(len(all))]
		switch random.IntN(3) {
		case 0:
			j.cancelled = true
			j.stop(errStopped)
		case 1: // the agent is restarted
			agent = newRunner(t, cfg)
			for _, j := range all {
				j.restart(agent)
			}
		}
	}
	require.NoError(t, c.Await(t.Context()))
	// A controller that has lost a job drains the node that still runs it, until somebody
	// resumes the node.
	operator := time.NewTicker(5 * time.Second)
	defer operator.Stop()
	for _, j := range all {
		limit := time.After(5 * time.Minute)
		for ended := false; !ended; {
			select {
			case err := <-j.end:
				j.judge(t, err, total)
				ended = true
			case <-operator.C:
				_, _ = c.Output(t.Context(), "scontrol", "update", "nodename=n[1-2]", "state=resume") // an error if they are not drained
			case <-limit:
				require.Fail(t, "the run has not ended", "messages: %s", j.out.Messages())
			}
		}
	}
}

// restart has another agent follow the job, unless it has ended.
func (j *chaosJob) restart(r *slurm.Runner) {
	j.stop(runner.ErrDetach)
	err := j.endedIn(time.Minute)
	if errors.Is(err, runner.ErrDetach) && !j.cancelled {
		j.resume(r)
		return
	}
	j.end <- err
}

func (s *started) endedIn(limit time.Duration) error {
	s.t.Helper()
	select {
	case err := <-s.end:
		return err
	case <-time.After(limit):
		require.Fail(s.t, "the run has not ended", "messages: %s", s.out.Messages())
		return nil
	}
}

// judge compares an outcome with what the benchmark has left.
func (j *chaosJob) judge(t *testing.T, err error, v *verdict) {
	t.Helper()
	v.jobs++
	starts, _ := os.ReadFile(filepath.Join(j.job.ResultsDir, "starts"))
	if len(starts) > len("x\n") {
		v.twice++
		t.Errorf("%s ran %d times", j.job.ID, len(starts)/2)
	}
	d, derr := supervisor.OpenDir(filepath.Join(j.job.Dir, "slurm"))
	if errors.Is(derr, os.ErrNotExist) { // it was stopped before it was begun
		require.ErrorIs(t, err, errStopped)
		return
	}
	require.NoError(t, derr)
	defer d.Close()
	exit, found, _ := d.Exit()
	printed, _ := os.ReadFile(filepath.Join(j.job.Dir, "slurm/output"))
	if got := j.out.Text(); got != string(printed) && !strings.Contains(j.out.Messages(), "bytes") {
		v.lines++
		t.Errorf("%s: %d bytes of %d arrived: %v; %s", j.job.ID, len(got), len(printed), err, j.out.Messages())
	}
	e, isExit := errors.AsType[*runner.ExitError](err)
	natural := found && exit.Signal == "" && exit.Asked == ""
	bad := ""
	switch {
	case errors.Is(err, errStopped):
		if !j.cancelled || errors.Is(err, runner.ErrStillRunning) {
			bad = "it is not known to have ended"
		}
	case err == nil:
		if !found || exit.Code != 0 || j.code != 0 || string(printed) != lines(j.lines) {
			bad = "it did not succeed"
		}
	case isExit && e.Signal == "":
		if !found || exit.Code != e.Code || e.Code != j.code {
			bad = "it ended otherwise"
		}
	case natural:
		bad = "its own end is not told"
	}
	if bad != "" {
		v.wrong++
		t.Errorf("%s: %s: %v; exit.json: %+v; messages: %s", j.job.ID, bad, err, exit, j.out.Messages())
		return
	}
	if natural {
		v.exact++
	} else if !errors.Is(err, errStopped) {
		v.lost++
		t.Logf("%s was ended by the faults: %v", j.job.ID, err)
	}
}
