package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func crashJob(t *testing.T) (runner.Job, string) {
	job := runner.Job{ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(), StopGrace: time.Second}
	dir := directory(job)
	require.NoError(t, os.Mkdir(dir, 0o700))
	return job, dir
}

func sleepSpec() spec {
	return spec{Version: version, Job: "job-1", Path: "/bin/sleep", Args: []string{"1000"}, Supervised: true}
}

func TestResumeCallsOffWhatWasNeverBegun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	_, err := New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
	require.Equal(t, superviseBusy, Supervise(dir), "a supervisor that is late begins nothing")
	require.NoFileExists(t, filepath.Join(dir, startedFile))
}

func TestResumeOfADirectRunThatWasNeverBegun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, spec{Version: version, Job: "job-1", Path: "/bin/true"}))
	_, err := New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestSuperviseOnce(t *testing.T) {
	t.Parallel()
	_, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	held, err := lock(dir)
	require.NoError(t, err)
	require.Equal(t, superviseBusy, Supervise(dir), "another one has it")
	require.NoError(t, held.Close())
	require.NoError(t, writeState(dir, startedFile, started{Version: version}))
	require.Equal(t, superviseBusy, Supervise(dir), "it was begun before")
	require.NoError(t, os.WriteFile(filepath.Join(dir, startedFile), []byte("{"), 0o600))
	require.Equal(t, superviseFailed, Supervise(dir))
}

// TestStopOfASlowStart stops a run whose supervisor is held up before it begins:
// it is called off, and begins nothing later.
func TestStopOfASlowStart(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	job.StopGrace = 20 * time.Millisecond
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	held, err := lock(dir) // as a supervisor does first
	require.NoError(t, err)
	defer held.Close()
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err = New(Config{}).Resume(ctx, job, runner.Position{}, &runnertest.Recorder{})
	require.Equal(t, cause, err)

	require.ErrorContains(t, supervise(dir, sleepSpec()), "called off")
	s, found, err := readState[started](dir, startedFile)
	require.NoError(t, err)
	require.True(t, found)
	require.Zero(t, s.Child.PID)
}

func TestResumeOfARunThatVanished(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"killed while starting": {specFile: `{"version":1,"supervised":true}`, startedFile: `{"version":1}`},
		"direct":                {specFile: `{"version":1}`, startedFile: `{"version":1,"child":{"pid":1,"start":1}}`},
		"broken spec":           {specFile: `{`},
		"no spec":               {startedFile: `{"version":1,"child":{"pid":1,"start":1}}`},
		"later version":         {specFile: `{"version":2}`},
		"broken exit":           {specFile: `{"version":1,"supervised":true}`, exitFile: `{`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, dir := crashJob(t)
			for file, text := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			_, err := New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
			require.ErrorIs(t, err, runner.ErrLost)
		})
	}
}

// supervised starts a supervisor, and returns it once its benchmark lives.
func supervised(t *testing.T, dir string) (*exec.Cmd, started) {
	t.Helper()
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "supervise", dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	require.NoError(t, cmd.Start())
	var s started
	require.Eventually(t, func() bool {
		var found bool
		s, found, err = readState[started](dir, startedFile)
		return err == nil && found && s.Child.PID != 0
	}, 10*time.Second, 5*time.Millisecond)
	return cmd, s
}

// TestARunWithoutItsSpecIsEnded loses the spec of a run whose benchmark lives.
func TestARunWithoutItsSpecIsEnded(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	cmd, s := supervised(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, specFile)))
	_, err := New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.alive())
	_ = cmd.Wait() // with whatever code
}

// TestKilledSupervisor kills the supervisor and expects the benchmark to be
// found and ended: nobody could say how it ended.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	cmd, s := supervised(t, dir)
	require.True(t, s.Child.alive())
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT} {
		require.NoError(t, cmd.Process.Signal(sig))
	}
	held, err := lock(dir)
	require.NoError(t, err)
	require.Nil(t, held, "the supervisor heeds none of them")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	_, err = New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.alive())
}

// TestBrokenFileOfARun breaks the file that says what is run, and expects the
// benchmark to be ended: nobody could follow it.
func TestBrokenFileOfARun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	exe, err := os.Executable()
	require.NoError(t, err)
	k, err := startSupervisor([]string{exe, "supervise"}, dir, os.Environ())
	require.NoError(t, err)
	var s started
	require.Eventually(t, func() bool {
		var found bool
		s, found, err = readState[started](dir, startedFile)
		return err == nil && found && s.Child.PID != 0
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, specFile), nil, 0o600))
	_, err = New(Config{}).Resume(t.Context(), job, runner.Position{}, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.alive())
	require.Eventually(t, func() bool {
		gone, err := k.gone()
		return err == nil && gone
	}, 10*time.Second, 5*time.Millisecond)
}

func TestOldBoot(t *testing.T) {
	t.Parallel()
	self, ok := lookup(os.Getpid())
	require.True(t, ok)
	require.NotEmpty(t, started{Boot: base.BootID(), Child: self.identity}.left())
	require.Empty(t, started{Boot: "another", Child: self.identity}.left())
	require.False(t, identity{PID: self.PID, Start: self.Start + 1}.alive())
}

func TestOOM(t *testing.T) {
	t.Parallel()
	require.Equal(t, "/sys/fs/cgroup/a/b/memory.events", oomFile("0::/a/b\n"))
	require.Equal(t, "/sys/fs/cgroup/memory/x/memory.oom_control", oomFile("5:cpu,memory:/x\n0::/a\n"))
	require.Empty(t, oomFile("nonsense"))
	require.EqualValues(t, 3, parseOOM("low 0\noom 4\noom_kill 3\noom_group_kill 0\n"))
	require.EqualValues(t, 2, parseOOM("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"))
	require.Zero(t, parseOOM("oom_kill many\n"))
	killed := unix.WaitStatus(unix.SIGKILL)
	require.True(t, exitOf(killed, true).OOM)
	require.False(t, exitOf(killed, false).OOM)
	require.False(t, exitOf(unix.WaitStatus(unix.SIGTERM), true).OOM)
	require.True(t, exitOf(unix.WaitStatus(137<<8), true).OOM, "a shell in between says 137")
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	p := func(pid, parent int) proc { return proc{identity: identity{PID: pid}, parent: parent} }
	all := []proc{p(4, 3), p(3, 2), p(2, 1), p(9, 1), p(2, 4)}
	var pids []int
	for _, d := range descendants(all, 2) {
		pids = append(pids, d.PID)
	}
	require.Equal(t, []int{3, 4}, pids)
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	f.Add([]byte("1 (x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, ok := parseStat(text)
		if ok && (p.PID <= 0 || !strings.Contains(string(text), ")")) {
			t.Fatalf("%q gave %+v", text, p)
		}
	})
}

func FuzzParseOOM(f *testing.F) {
	f.Add("oom_kill 3\n")
	f.Add("0::/a\n")
	f.Fuzz(func(_ *testing.T, text string) {
		parseOOM(text)
		oomFile(text)
	})
}
