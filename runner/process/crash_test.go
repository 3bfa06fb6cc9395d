package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/internal/procfs"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

func crashJob(t *testing.T) (runner.Job, string) {
	job := runner.Job{ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(), StopGrace: time.Second}
	dir := directory(job)
	require.NoError(t, os.Mkdir(dir, 0o700))
	return job, dir
}

func readClaim(dir string) (supervisor.Claim, bool, error) {
	d, err := supervisor.OpenDir(dir)
	if err != nil {
		return supervisor.Claim{}, false, err
	}
	defer d.Close()
	return d.Claim()
}

func sleepSpec() spec {
	return spec{Version: version, Job: "job-1", Path: "/bin/sleep", Args: []string{"1000"}, Supervised: true}
}

func TestResumeCallsOffWhatWasNeverBegun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	_, err := New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
	require.Equal(t, superviseBusy, Supervise(dir), "a supervisor that is late begins nothing")
	require.NoFileExists(t, filepath.Join(dir, supervisor.ClaimFile))
}

func TestResumeOfADirectRunThatWasNeverBegun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, spec{Version: version, Job: "job-1", Path: "/bin/true"}))
	_, err := New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestSuperviseOnce(t *testing.T) {
	t.Parallel()
	_, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	held, err := supervisor.Lock(dir)
	require.NoError(t, err)
	require.Equal(t, superviseBusy, Supervise(dir), "another one has it")
	require.NoError(t, held.Close())
	require.NoError(t, writeState(dir, supervisor.ClaimFile, supervisor.Claim{Version: version}))
	require.Equal(t, superviseBusy, Supervise(dir), "it was begun before")
	require.NoError(t, os.WriteFile(filepath.Join(dir, supervisor.ClaimFile), []byte("{"), 0o600))
	require.Equal(t, superviseFailed, Supervise(dir))
}

// TestStopOfASlowStart stops a run whose supervisor is held up before it begins:
// it is called off, and begins nothing later.
func TestStopOfASlowStart(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	job.StopGrace = 20 * time.Millisecond
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	held, err := supervisor.Lock(dir) // as a supervisor does first
	require.NoError(t, err)
	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err = New(Config{}).Resume(ctx, job, 0, &runnertest.Recorder{})
	require.Equal(t, cause, err)

	require.NoError(t, held.Close())
	require.Equal(t, superviseBusy, Supervise(dir))
	require.NoFileExists(t, filepath.Join(dir, supervisor.ClaimFile))
}

func TestResumeOfARunThatVanished(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"killed while starting": {specFile: `{"version":1,"supervised":true}`, supervisor.ClaimFile: `{"version":1}`},
		"direct":                {specFile: `{"version":1}`, supervisor.ClaimFile: `{"version":1,"child":{"pid":1,"start":1}}`},
		"broken spec":           {specFile: `{`},
		"no spec":               {supervisor.ClaimFile: `{"version":1,"child":{"pid":1,"start":1}}`},
		"later version":         {specFile: `{"version":2}`},
		"broken exit":           {specFile: `{"version":1,"supervised":true}`, supervisor.ExitFile: `{`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, dir := crashJob(t)
			for file, text := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
			}
			_, err := New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
			require.ErrorIs(t, err, runner.ErrLost)
		})
	}
}

// supervised starts a supervisor, and returns it once its benchmark lives.
func supervised(t *testing.T, dir string) (*exec.Cmd, supervisor.Claim) {
	t.Helper()
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "supervise", dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	require.NoError(t, cmd.Start())
	var s supervisor.Claim
	require.Eventually(t, func() bool {
		var found bool
		s, found, err = readClaim(dir)
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
	_, err := New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.Alive())
	_ = cmd.Wait() // with whatever code
}

// TestKilledSupervisor kills the supervisor and expects the benchmark to be
// found and ended: nobody could say how it ended.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	cmd, s := supervised(t, dir)
	require.True(t, s.Child.Alive())
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT} {
		require.NoError(t, cmd.Process.Signal(sig))
	}
	held, err := supervisor.Lock(dir)
	require.NoError(t, err)
	require.Nil(t, held, "the supervisor heeds none of them")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	_, err = New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.Alive())
}

// TestBrokenFileOfARun breaks the file that says what is run, and expects the
// benchmark to be ended: nobody could follow it.
func TestBrokenFileOfARun(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	exe, err := os.Executable()
	require.NoError(t, err)
	k, err := New(Config{Supervisor: []string{exe, "supervise"}}).startSupervisor(dir, os.Environ())
	require.NoError(t, err)
	var s supervisor.Claim
	require.Eventually(t, func() bool {
		var found bool
		s, found, err = readClaim(dir)
		return err == nil && found && s.Child.PID != 0
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, specFile), nil, 0o600))
	_, err = New(Config{}).Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrLost)
	require.False(t, s.Child.Alive())
	require.Eventually(t, func() bool {
		gone, err := k.gone()
		return err == nil && gone
	}, 10*time.Second, 5*time.Millisecond)
}

func TestOldBoot(t *testing.T) {
	t.Parallel()
	self, ok := procfs.Lookup(os.Getpid())
	require.True(t, ok)
	require.NotEmpty(t, left(supervisor.Claim{Boot: base.BootID(), Child: self.ID}))
	require.Empty(t, left(supervisor.Claim{Boot: "another", Child: self.ID}))
	require.False(t, procfs.ID{PID: self.PID, Start: self.Start + 1}.Alive())
}

// TestResumeOfALaterVersion has files that only a newer agent can read: its run
// is left alone while it lives, also when this agent is stopped.
func TestResumeOfALaterVersion(t *testing.T) {
	t.Parallel()
	job, dir := crashJob(t)
	require.NoError(t, writeState(dir, specFile, sleepSpec()))
	exe, err := os.Executable()
	require.NoError(t, err)
	_, err = New(Config{Supervisor: []string{exe, "supervise"}}).startSupervisor(dir, os.Environ())
	require.NoError(t, err)
	var s supervisor.Claim
	require.Eventually(t, func() bool {
		var found bool
		s, found, err = readClaim(dir)
		return err == nil && found && s.Child.PID != 0
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, specFile), []byte(`{"version":2}`), 0o600))

	for _, cause := range []error{runner.ErrDetach, errors.New("cancelled by a test")} {
		ctx, cancel := context.WithCancelCause(t.Context())
		out := &runnertest.Recorder{}
		ended := make(chan error, 1)
		go func() {
			_, err := New(Config{}).Resume(ctx, job, 0, out)
			ended <- err
		}()
		require.Eventually(t, func() bool { return out.Messages() != "" }, 10*time.Second, time.Millisecond)
		require.Contains(t, out.Messages(), "newer version")
		require.True(t, s.Child.Alive())
		cancel(cause)
		require.ErrorIs(t, <-ended, cause)
		require.Equal(t, errors.Is(cause, runner.ErrDetach), s.Child.Alive(), "a cancel ends it, nothing else does")
	}
}
