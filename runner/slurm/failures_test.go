package slurm_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

// A started job is one that a goroutine follows.
type started struct {
	t    *testing.T
	job  runner.Job
	out  *runnertest.Recorder
	stop context.CancelCauseFunc
	end  chan error
	done runner.Result // valid after end
}

// run runs a job whose benchmark is what the model tells fakekitt.
func run(t *testing.T, r *slurm.Runner, dir, model string) *started {
	t.Helper()
	job, err := newJob(dir, model)
	require.NoError(t, err)
	s := &started{t: t, job: job, out: &runnertest.Recorder{}}
	s.follow(r.Run)
	return s
}

func (s *started) follow(f func(context.Context, runner.Job, runner.Output) (runner.Result, error)) {
	ctx, stop := context.WithCancelCause(s.t.Context())
	end := make(chan error, 1)
	s.stop, s.end = stop, end
	go func() {
		var err error
		s.done, err = f(ctx, s.job, s.out)
		end <- err
	}()
	s.t.Cleanup(func() { stop(runner.ErrDetach) })
}

// resume follows the job again.
func (s *started) resume(r *slurm.Runner) {
	s.follow(func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		return r.Resume(ctx, job, s.out.Position(), out)
	})
}

// await returns once look returns true.
func await(t *testing.T, what string, look func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !look(); {
		require.True(t, time.Now().Before(end), "not seen in time: %s", what)
		select {
		case <-t.Context().Done():
			require.Fail(t, "the test has ended")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// said waits for a message of the runner's.
func (s *started) said(text string) {
	s.t.Helper()
	await(s.t, text, func() bool { return strings.Contains(s.out.Messages(), text) })
}

// printed waits for output of the benchmark.
func (s *started) printed(text string) {
	s.t.Helper()
	await(s.t, text, func() bool { return strings.Contains(s.out.Text(), text) })
}

// ended waits for the end.
func (s *started) ended() error {
	s.t.Helper()
	select {
	case err := <-s.end:
		return err
	case <-time.After(120 * time.Second):
		require.Fail(s.t, "the run has not ended", "messages: %s", s.out.Messages())
		return nil
	}
}

// id returns Slurm's ID of the job.
func (s *started) id() string {
	s.t.Helper()
	path := filepath.Join(s.job.Dir, "slurm/submitted.json")
	var text []byte
	await(s.t, "the job's ID", func() (ok bool) {
		var err error
		text, err = os.ReadFile(path)
		return err == nil
	})
	var saved struct{ IDs []string }
	require.NoError(s.t, json.Unmarshal(text, &saved))
	return saved.IDs[0]
}

// lines returns what fakekitt prints.
func lines(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	return text.String()
}

var errStopped = errors.New("stopped by the test")

// Row 1: sbatch fails, and the job runs all the same.
func TestASubmissionThatTimesOutRunsOnce(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	require.NoError(t, c.Freeze(slurmtest.Controller))
	s := run(t, r, dir, "fake:lines=5")
	s.said("Slurm did not say whether it took the job")
	require.NoError(t, c.Thaw(slurmtest.Controller))
	require.NoError(t, s.ended())
	require.Equal(t, lines(5), s.out.Text())
	require.Contains(t, s.out.Messages(), "found the job in Slurm")
}

// Row 2: another start of the same job finds the claim and ends.
func TestASecondStartRunsNothing(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=1,hang")
	s.printed("line 0\n")
	text, err := os.ReadFile(filepath.Join(s.job.Dir, "slurm/intent.json"))
	require.NoError(t, err)
	var intent struct{ Name, Script string }
	require.NoError(t, json.Unmarshal(text, &intent))
	log := filepath.Join(dir, "second.log")
	again := c.Command(t.Context(), "sbatch", "--wait", "--job-name=another", "--output="+log, "/dev/stdin", filepath.Join(s.job.Dir, "slurm/spec.json"))
	again.Stdin = strings.NewReader(intent.Script)
	out, err := again.CombinedOutput()
	require.NoError(t, err, "it ends with status 0: %s", out)
	said, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(said), "not started: the benchmark was begun before")
	s.stop(errStopped)
	require.ErrorIs(t, s.ended(), errStopped)
	require.Equal(t, lines(1), s.out.Text())
}

// Row 8: a job that somebody requeues does not run again, and leaves the queue.
func TestARequeuedJobDoesNotRunAgain(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=1,hang")
	s.printed("line 0\n")
	id := s.id()
	_, err := c.Output(t.Context(), "scontrol", "requeue", id)
	require.Error(t, err, "the job was submitted with --no-requeue")
	_, err = c.Output(t.Context(), "scontrol", "update", "jobid="+id, "requeue=1")
	require.NoError(t, err)
	_, err = c.Output(t.Context(), "scontrol", "requeue", id)
	require.NoError(t, err)
	err = s.ended()
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, slurm.ClassRequeued, e.Class)
	require.Equal(t, lines(1), s.out.Text())
	left, err := c.Output(t.Context(), "squeue", "-h", "-o", "%i")
	require.NoError(t, err)
	require.Empty(t, left, "it waits no more")
}

// Row 3c: Slurm gives a node up whose process goes on.
func TestALostNodeIsFollowedToTheTrueEnd(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=15,delay=1s,exit=7")
	s.printed("line 0\n")
	require.NoError(t, c.Freeze(slurmtest.Node("n1")))
	_, err := c.Output(t.Context(), "scontrol", "update", "nodename=n1", "state=down", "reason=test")
	require.NoError(t, err)
	s.said("NODE_FAIL")
	err = s.ended()
	exit, ok := errors.AsType[*runner.ExitError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, 7, exit.Code)
	require.Equal(t, lines(15), s.out.Text())
	require.Contains(t, s.out.Messages(), "still shows that it lives")
	require.NoError(t, c.Thaw(slurmtest.Node("n1")))
}

// Row 4: a job outlives slurmd.
func TestAKilledSlurmdChangesNothing(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=6,delay=500ms,exit=7")
	s.printed("line 0\n")
	require.NoError(t, c.Kill(slurmtest.Node("n1")))
	require.NoError(t, c.Restart(slurmtest.Node("n1")))
	exit, ok := errors.AsType[*runner.ExitError](s.ended())
	require.True(t, ok)
	require.Equal(t, 7, exit.Code)
	require.Equal(t, lines(6), s.out.Text())
}

// Rows 3 and 3b: a killed controller forgets jobs and starts them again. Whatever it
// does, the benchmark runs at most once, and what is returned is true.
func TestAKilledControllerLeavesTheTruth(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=6,delay=500ms,exit=7")
	s.printed("line 0\n")
	require.NoError(t, c.Kill(slurmtest.Controller))
	require.NoError(t, c.Restart(slurmtest.Controller))
	err := s.ended()
	require.Error(t, err, "it did not succeed")
	text := s.out.Text()
	require.True(t, strings.HasPrefix(lines(6), text), "printed %q", text)
	if exit, ok := errors.AsType[*runner.ExitError](err); ok && exit.Code == 7 {
		require.Equal(t, lines(6), text)
	}
	t.Logf("after %d lines: %v", strings.Count(text, "\n"), err)
}

// A controller that is killed just after a submission has not saved it. The job is
// submitted again.
func TestAJobThatTheControllerLostIsSubmittedAgain(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	_, err := c.Output(t.Context(), "scontrol", "update", "nodename=n1", "state=drain", "reason=test")
	require.NoError(t, err)
	s := run(t, newRunner(t, config(t, c, dir)), dir, "fake:lines=5")
	s.id()
	require.NoError(t, c.Kill(slurmtest.Controller))
	require.NoError(t, os.RemoveAll(filepath.Join(c.Dir(), "state"))) // whatever it had saved
	require.NoError(t, os.Mkdir(filepath.Join(c.Dir(), "state"), 0o700))
	require.NoError(t, c.Restart(slurmtest.Controller))
	require.NoError(t, s.ended())
	require.Equal(t, lines(5), s.out.Text())
	require.Contains(t, s.out.Messages(), "submitting it again")
}

// Row 6: without accounting, Slurm forgets a job soon after its end.
func TestAForgottenJobIsToldByItsFiles(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1, Lines: []string{"MinJobAge=2"}}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=8,delay=400ms,exit=3")
	s.printed("line 0\n")
	id := s.id()
	s.stop(runner.ErrDetach)
	require.ErrorIs(t, s.ended(), runner.ErrDetach)
	await(t, "that Slurm forgets the job", func() bool {
		_, err := c.Output(t.Context(), "squeue", "-h", "-j", id)
		return err != nil && strings.Contains(err.Error(), "Invalid job id")
	})
	s.resume(newRunner(t, config(t, c, dir)))
	exit, ok := errors.AsType[*runner.ExitError](s.ended())
	require.True(t, ok)
	require.Equal(t, 3, exit.Code)
	require.Equal(t, lines(8), s.out.Text())
}

// Row 7: the node does not see the job's directory.
func TestADirectoryThatIsNotShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := ownCluster(t, slurmtest.Config{Nodes: 1, Hidden: dir})
	s := run(t, newRunner(t, config(t, c, dir)), dir, "fake:lines=5")
	err := s.ended()
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, slurm.ClassShared, e.Class)
	require.ErrorContains(t, err, "mount slurm.shared_dir on all nodes")
	require.Empty(t, s.out.Text())
}

// Row 9: somebody else cancels the job.
func TestAForeignCancelIsNamed(t *testing.T) {
	t.Parallel()
	for _, accounting := range []bool{false, true} {
		t.Run("accounting="+strconv.FormatBool(accounting), func(t *testing.T) {
			t.Parallel()
			c, dir := ownCluster(t, slurmtest.Config{Nodes: 1, Accounting: accounting}), t.TempDir()
			s := run(t, newRunner(t, config(t, c, dir)), dir, "fake:lines=1,hang")
			s.printed("line 0\n")
			_, err := c.Output(t.Context(), "scancel", s.id())
			require.NoError(t, err)
			err = s.ended()
			e, ok := errors.AsType[*runner.Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, slurm.ClassCancelled, e.Class)
			require.ErrorContains(t, err, "and not by this agent")
			require.Equal(t, lines(1), s.out.Text())
		})
	}
}

// Row 10: the time limit of the job is over. It takes the minute that is the least limit.
func TestATimeLimitIsNamed(t *testing.T) {
	t.Parallel()
	if os.Getenv("KITT_TEST_SLURM") != "1" {
		t.Skip("SKIPPED: it takes a minute, and runs with KITT_TEST_SLURM=1")
	}
	c, dir := sharedCluster(t), t.TempDir()
	cfg := config(t, c, dir)
	cfg.Time = time.Second // rounded up
	s := run(t, newRunner(t, cfg), dir, "fake:lines=1,hang,ignore-term")
	err := s.ended()
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, slurm.ClassTimeLimit, e.Class)
	require.Equal(t, lines(1), s.out.Text())
}

// A job that waits tells why, and its cancel frees it and no other.
func TestAWaitingJobIsCancelled(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	foreign, err := c.Output(t.Context(), "sbatch", "--parsable", "--gres=gpu:8", "--output=/dev/null", "--wrap", "sleep 1000")
	require.NoError(t, err)
	cfg := config(t, c, dir)
	cfg.GPUs = 8
	s := run(t, newRunner(t, cfg), dir, "fake:lines=1")
	s.said("waiting in Slurm's queue")
	s.said("Resources")
	id := s.id()
	s.stop(errStopped)
	require.ErrorIs(t, s.ended(), errStopped)
	left, err := c.Output(t.Context(), "squeue", "-h", "-t", "all", "-o", "%i %T")
	require.NoError(t, err)
	require.Contains(t, left, strings.TrimSpace(foreign)+" RUNNING\n")
	require.Contains(t, left, id+" CANCELLED\n")
	require.Empty(t, s.out.Text())
}

// A job that has the ID of one of ours, and another name, is not cancelled: a controller
// that lost jobs gives their IDs to others.
func TestAnIDOfAnotherIsNotCancelled(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	foreign, err := c.Output(t.Context(), "sbatch", "--parsable", "--output=/dev/null", "--wrap", "sleep 1000")
	require.NoError(t, err)
	id := strings.TrimSpace(foreign)
	cfg := config(t, c, dir)
	// squeue says that the foreign job is this runner's, as it was just before.
	shim(t, &cfg, "squeue", `/usr/bin/squeue "$@" | sed 's/^'`+id+`'|\(.*\)|wrap$/'`+id+`'|\1|'"$(cat `+dir+`/name)"'/'`)
	r := newRunner(t, cfg)
	s := run(t, newRunner(t, config(t, c, dir)), dir, "fake:lines=1,hang")
	s.printed("line 0\n")
	text, err := os.ReadFile(filepath.Join(s.job.Dir, "slurm/intent.json"))
	require.NoError(t, err)
	var intent struct{ Name string }
	require.NoError(t, json.Unmarshal(text, &intent))
	s.stop(errStopped)
	require.ErrorIs(t, s.ended(), errStopped)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "name"), []byte(intent.Name), 0o600))
	ended, err := r.Sweep(t.Context(), func(string) bool { return false }, 0)
	require.NoError(t, err)
	require.Equal(t, []string{s.job.ID}, ended, "it was taken for ours")
	state, err := c.Output(t.Context(), "squeue", "-h", "-j", id, "-o", "%T")
	require.NoError(t, err)
	require.Equal(t, "RUNNING\n", state)
	_, err = c.Output(t.Context(), "scancel", id)
	require.NoError(t, err)
}

// shim puts a shell script in front of one of Slurm's commands.
func shim(t *testing.T, cfg *slurm.Config, name, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	for i, v := range cfg.Commands {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			cfg.Commands[i] = "PATH=" + dir + ":" + path
		}
	}
}

// The node ends the benchmark by itself when Slurm is away.
func TestACancelWithoutSlurm(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	cfg := config(t, c, dir)
	cfg.Deadline = 2 * time.Second
	s := run(t, newRunner(t, cfg), dir, "fake:lines=1,hang,ignore-term")
	s.printed("line 0\n")
	require.NoError(t, c.Kill(slurmtest.Controller))
	s.stop(errStopped)
	err := s.ended()
	require.ErrorIs(t, err, errStopped)
	require.NotErrorIs(t, err, runner.ErrStillRunning)
}

// A refusal is final, says what to change, and leaves nothing.
func TestARefusedJob(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	cfg := config(t, c, dir)
	cfg.Partition = "nope"
	r := newRunner(t, cfg)
	s := run(t, r, dir, "fake:lines=1")
	err := s.ended()
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, slurm.ClassRefused, e.Class)
	require.ErrorContains(t, err, "set slurm.partition")
	_, err = r.Resume(t.Context(), s.job, 0, s.out)
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

// Sweep ends jobs of this owner that no job claims, and no others.
func TestSweep(t *testing.T) {
	t.Parallel()
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	left, kept := run(t, r, dir, "fake:lines=1,hang"), run(t, r, dir, "fake:lines=1,hang")
	other := config(t, c, dir)
	other.Owner = "gpu-1-b"
	neighbour := run(t, newRunner(t, other), dir, "fake:lines=1,hang")
	for _, s := range []*started{left, kept, neighbour} {
		s.printed("line 0\n")
	}
	left.stop(runner.ErrDetach)
	require.ErrorIs(t, left.ended(), runner.ErrDetach)
	claimed := func(id string) bool { return id == kept.job.ID }
	ended, err := r.Sweep(t.Context(), claimed, time.Hour)
	require.NoError(t, err)
	require.Empty(t, ended, "it is younger than the grace")
	ended, err = r.Sweep(t.Context(), claimed, 0)
	require.NoError(t, err)
	require.Equal(t, []string{left.job.ID}, ended)
	for _, s := range []*started{kept, neighbour} {
		state, err := c.Output(t.Context(), "squeue", "-h", "-j", s.id(), "-o", "%T")
		require.NoError(t, err)
		require.Equal(t, "RUNNING\n", state)
		s.stop(errStopped)
		require.ErrorIs(t, s.ended(), errStopped)
	}
}

// A job of an agent that died between its intent and sbatch's answer is submitted once.
func TestAnIntentIsCarriedOut(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	r := newRunner(t, config(t, c, dir))
	s := run(t, r, dir, "fake:lines=30,delay=200ms")
	s.printed("line 0\n")
	s.stop(runner.ErrDetach)
	require.ErrorIs(t, s.ended(), runner.ErrDetach)
	require.NoError(t, os.Remove(filepath.Join(s.job.Dir, "slurm/submitted.json")))
	s.resume(newRunner(t, config(t, c, dir)))
	require.NoError(t, s.ended())
	require.Equal(t, lines(30), s.out.Text())
}

func TestAJobOutsideOfTheSharedDirectory(t *testing.T) {
	t.Parallel()
	r := newRunner(t, slurm.Config{Owner: "a", SharedDir: t.TempDir(), Wrapper: wrapper})
	_, err := r.Run(t.Context(), runner.Job{ID: "1", Dir: t.TempDir()}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.ErrorContains(t, err, "not below the shared directory")
}

// Without Slurm a job waits, and the error says for what.
func TestCheckStartWithoutSlurm(t *testing.T) {
	t.Parallel()
	r := newRunner(t, slurm.Config{Owner: "a", SharedDir: "/s", Wrapper: wrapper, Commands: []string{"SLURM_CONF=/nonexistent"}, Deadline: time.Second})
	require.ErrorIs(t, r.CheckStart(t.Context()), runner.ErrNotReady)
}

// A shared directory without room keeps a job waiting, and does not fail it.
func TestAFullSharedDirectory(t *testing.T) {
	t.Parallel()
	c := sharedCluster(t)
	dir := t.TempDir()
	require.NoError(t, unix.Mount("none", dir, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	r := newRunner(t, config(t, c, dir))
	job, err := newJob(dir, "fake:lines=3")
	require.NoError(t, err)
	full := filepath.Join(dir, "full")
	file, err := os.Create(full)
	require.NoError(t, err)
	_, err = io.Copy(file, rand.Reader) // until there is no room
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, file.Close())
	s := &started{t: t, job: job, out: &runnertest.Recorder{}}
	s.follow(r.Run)
	s.said("waiting to start")
	require.NoError(t, os.Remove(full))
	require.NoError(t, s.ended())
	require.Equal(t, lines(3), s.out.Text())
}

// What the benchmark has started elsewhere is ended before the job counts as ended.
func TestAfterTheBenchmark(t *testing.T) {
	t.Parallel()
	c, dir := sharedCluster(t), t.TempDir()
	cfg := config(t, c, dir)
	cfg.After = []string{"/bin/sh", "-c", `echo "$0" >"$1/after"`, "{job}", "{results}"}
	s := run(t, newRunner(t, cfg), dir, "fake:lines=1,exit=3")
	require.ErrorContains(t, s.ended(), "Exit 3")
	text, err := os.ReadFile(filepath.Join(s.job.ResultsDir, "after"))
	require.NoError(t, err)
	require.Equal(t, s.job.ID+"\n", string(text))
}

// Without Slurm a job that waits can't be taken out of the queue. The runner says so, and
// does it once Slurm is back.
func TestACancelOfAWaitingJobWithoutSlurm(t *testing.T) {
	t.Parallel()
	if os.Getenv("KITT_TEST_SLURM") != "1" {
		t.Skip("SKIPPED: it takes most of a minute, and runs with KITT_TEST_SLURM=1")
	}
	c, dir := ownCluster(t, slurmtest.Config{Nodes: 1}), t.TempDir()
	_, err := c.Output(t.Context(), "scontrol", "update", "nodename=n1", "state=drain", "reason=test")
	require.NoError(t, err)
	cfg := config(t, c, dir)
	cfg.Deadline = time.Second
	r := newRunner(t, cfg)
	s := run(t, r, dir, "fake:lines=1")
	s.said("waiting in Slurm's queue")
	require.NoError(t, c.Freeze(slurmtest.Controller))
	s.stop(errStopped)
	err = s.ended()
	require.ErrorIs(t, err, errStopped)
	require.ErrorIs(t, err, runner.ErrStillRunning)
	require.NoError(t, c.Thaw(slurmtest.Controller))
	require.NoError(t, c.Await(t.Context()))
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errStopped)
	_, err = r.Resume(ctx, s.job, 0, s.out)
	require.ErrorIs(t, err, errStopped)
	require.NotErrorIs(t, err, runner.ErrStillRunning)
	left, err := c.Output(t.Context(), "squeue", "-h")
	require.NoError(t, err)
	require.Empty(t, left)
}
