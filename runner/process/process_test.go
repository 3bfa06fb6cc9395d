package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// kitt is the path of the program that plays kitt.
var kitt string

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "supervise" {
		os.Exit(process.Supervise(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "drive" {
		os.Exit(drive(os.Args[2], os.Args[3]))
	}
	// A program built with -race otherwise rests a second before it exits, and
	// each run has one for its supervisor.
	err := os.Setenv("GORACE", "atexit_sleep_ms=0")
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp("", "kitt-process")
	}
	if err == nil {
		kitt, err = runnertest.BuildFakeKitt(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func supervised(t testing.TB) *process.Runner {
	exe, err := os.Executable()
	require.NoError(t, err)
	return process.New(process.Config{Command: kitt, Supervisor: []string{exe, "supervise"}})
}

func direct(testing.TB) *process.Runner { return process.New(process.Config{Command: kitt}) }

// both runs a test with a supervisor and without.
func both(t *testing.T, test func(t *testing.T, r *process.Runner)) {
	t.Run("supervised", func(t *testing.T) { t.Parallel(); test(t, supervised(t)) })
	t.Run("direct", func(t *testing.T) { t.Parallel(); test(t, direct(t)) })
}

func newJob(t testing.TB, model string) runner.Job {
	return runner.Job{
		ID: "job-1", Dir: t.TempDir(), ResultsDir: t.TempDir(),
		Model: model, Engine: "ollama", Suite: "quick", StopGrace: 5 * time.Second,
	}
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// child returns the PID that `fork` says first.
func child(t *testing.T, text string) int {
	word, _, _ := strings.Cut(strings.TrimPrefix(text, "child "), "\n")
	pid, err := strconv.Atoi(word)
	require.NoError(t, err, text)
	return pid
}

func TestContract(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, r runner.Runner) {
		require.NoError(t, runnertest.Test(t.Context(), r, func(b runnertest.Behaviour) (runner.Job, error) {
			job := newJob(t, b.Model())
			job.StopGrace = time.Second
			return job, nil
		}))
	}
	t.Run("supervised", func(t *testing.T) { t.Parallel(); test(t, supervised(t)) })
	// Without a supervisor a run can't be let go of, so only what every runner
	// promises is asked for.
	t.Run("direct", func(t *testing.T) { t.Parallel(); test(t, struct{ runner.Runner }{direct(t)}) })
}

// TestEndThatCantBeWritten has no room for how a run without a supervisor ended:
// whoever waits for it knows that all the same.
func TestEndThatCantBeWritten(t *testing.T) {
	t.Parallel()
	command := filepath.Join(t.TempDir(), "kitt")
	script := "#!/bin/sh\necho begun\nuntil test -e ready; do sleep 0.01; done\nexit 3\n"
	require.NoError(t, os.WriteFile(command, []byte(script), 0o700))
	job := newJob(t, "")
	var out runnertest.Recorder
	out.OnOutput(func() {
		dir := filepath.Join(job.Dir, "process")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "exit.json", "taken"), 0o700)) // no file can have that name
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600))
	})
	_, err := process.New(process.Config{Command: command}).Run(t.Context(), job, &out)
	var exit *runner.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.Code)
}

func TestRun(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *process.Runner) {
		job := newJob(t, "fake:lines=1000,stderr")
		var out runnertest.Recorder
		before := time.Now()
		result, err := r.Run(t.Context(), job, &out)
		require.NoError(t, err)
		require.Equal(t, lines(0, 1000), out.Text())
		require.Equal(t, "running "+kitt+" on this machine\n", out.Messages())
		require.Equal(t, runner.Position(len(out.Text())), out.Position())
		require.Equal(t, "process", result.Runner)
		require.WithinRange(t, result.Started, before, result.Ended)
		require.FileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))

		_, err = r.Run(t.Context(), job, &out)
		require.ErrorContains(t, err, "begun before", "a job never runs twice")
	})
}

func TestExit(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *process.Runner) {
		for _, c := range []struct {
			model string
			want  runner.ExitError
		}{
			{"fake:lines=1,exit=3", runner.ExitError{Code: 3}},
			{"fake:lines=1,signal=9", runner.ExitError{Code: 137, Signal: "SIGKILL"}},
			{"fake:lines=1,signal=15", runner.ExitError{Code: 143, Signal: "SIGTERM"}},
			{"fake:nonsense", runner.ExitError{Code: 2}},
		} {
			job := newJob(t, c.model)
			_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
			var exit *runner.ExitError
			require.ErrorAs(t, err, &exit, c.model)
			require.Equal(t, c.want, *exit, c.model)

			var again runnertest.Recorder
			_, err = r.Resume(t.Context(), job, runner.Position(2), &again)
			require.ErrorAs(t, err, &exit, "an ended run says again how it ended")
			if !strings.Contains(c.model, "nonsense") {
				require.Equal(t, "ne 0\n", again.Text())
			}
		}
	})
}

func TestMissingCommand(t *testing.T) {
	t.Parallel()
	job := newJob(t, "m")
	r := process.New(process.Config{Command: "no-such-kitt"})
	_, err := r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.EqualError(t, err, "the command no-such-kitt is not installed on this machine (kitt-agent build)")
	_, err = r.Resume(t.Context(), job, 0, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrNotStarted)
}

func TestNotAProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kitt")
	require.NoError(t, os.WriteFile(path, []byte("\x7fELF"), 0o700))
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, supervisor := range [][]string{nil, {exe, "supervise"}} {
		r := process.New(process.Config{Command: path, Supervisor: supervisor})
		_, err := r.Run(t.Context(), newJob(t, "m"), &runnertest.Recorder{})
		require.ErrorIs(t, err, runner.ErrUnavailable)
		require.ErrorContains(t, err, "exec format error")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("KITT_TOKEN_FOR_TEST", "secret")
	t.Setenv("PLAIN_FOR_TEST", "plain")
	t.Setenv("CUDA_FOR_TEST", "7")
	for _, c := range []struct {
		env  []string
		name string
		want string
	}{
		{nil, "KITT_TOKEN_FOR_TEST", ""},
		{nil, "PLAIN_FOR_TEST", ""},
		{nil, "CUDA_FOR_TEST", "7"},
		{[]string{}, "CUDA_FOR_TEST", ""},
		{[]string{"KITT_TOKEN_FOR_TEST=wanted"}, "KITT_TOKEN_FOR_TEST", "wanted"},
	} {
		var out runnertest.Recorder
		r := process.New(process.Config{Command: kitt, Env: c.env})
		_, err := r.Run(t.Context(), newJob(t, "fake:lines=0,env="+c.name), &out)
		require.NoError(t, err)
		require.Equal(t, c.name+"="+c.want+"\n", out.Text())
	}
}

// TestSetOfGPUs restricts CUDA to the job's GPUs, whatever the environment says.
func TestSetOfGPUs(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "7")
	for want, gpus := range map[string][]string{"7": {runner.AllGPUs}, "GPU-1,MIG-2": {"GPU-1", "MIG-2"}} {
		var out runnertest.Recorder
		job := newJob(t, "fake:lines=0,env=CUDA_VISIBLE_DEVICES")
		job.GPUs = gpus
		_, err := process.New(process.Config{Command: kitt}).Run(t.Context(), job, &out)
		require.NoError(t, err)
		require.Equal(t, "CUDA_VISIBLE_DEVICES="+want+"\n", out.Text())
	}
}

// cancelWhen cancels when the output contains text.
func cancelWhen(out *runnertest.Recorder, text string, cancel func()) {
	out.OnOutput(func() {
		if strings.Contains(out.Text(), text) {
			cancel()
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	cause := errors.New("stopped by a test")
	both(t, func(t *testing.T, r *process.Runner) {
		for _, c := range []struct {
			model string
			grace time.Duration
			least time.Duration
		}{
			{"fake:fork,lines=1,hang", 10 * time.Second, 0},
			{"fake:fork,lines=1,hang,ignore-term", 300 * time.Millisecond, 300 * time.Millisecond},
			{"fake:fork-session,lines=1,hang,ignore-term", 300 * time.Millisecond, 300 * time.Millisecond},
		} {
			job := newJob(t, c.model)
			job.StopGrace = c.grace
			ctx, cancel := context.WithCancelCause(t.Context())
			var out runnertest.Recorder
			cancelWhen(&out, "line 0\n", func() { cancel(cause) })
			begin := time.Now()
			_, err := r.Run(ctx, job, &out)
			require.ErrorIs(t, err, cause, c.model)
			require.GreaterOrEqual(t, time.Since(begin), c.least)
			require.Less(t, time.Since(begin), c.grace+2*time.Second)
			require.False(t, running(child(t, out.Text())), c.model)
			require.NoFileExists(t, filepath.Join(job.ResultsDir, "metrics.json"))
		}
	})
}

func TestCancelAtOnce(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *process.Runner) {
		cause := errors.New("stopped by a test")
		ctx, cancel := context.WithCancelCause(t.Context())
		// The first thing that is said comes before anything is started.
		out := sayer{func() { cancel(cause) }}
		begin := time.Now()
		_, err := r.Run(ctx, newJob(t, "fake:lines=0,hang"), out)
		require.ErrorIs(t, err, cause)
		require.Less(t, time.Since(begin), 4*time.Second)

		job := newJob(t, "fake:")
		_, err = r.Run(ctx, job, out)
		require.ErrorIs(t, err, cause)
		_, err = r.Resume(t.Context(), job, 0, out)
		require.ErrorIs(t, err, runner.ErrNotStarted)
	})
}

type sayer struct{ said func() }

func (s sayer) WriteMessage(string) error                            { s.said(); return nil }
func (s sayer) WriteOutput([]byte, time.Time, runner.Position) error { return nil }

func TestStraysAreEnded(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"fake:fork,lines=1", "fake:fork-session,lines=1", "fake:fork-session,ignore-term,lines=1"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			var out runnertest.Recorder
			_, err := supervised(t).Run(t.Context(), newJob(t, model), &out)
			require.NoError(t, err)
			require.False(t, running(child(t, out.Text())))
		})
	}
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		var out runnertest.Recorder
		_, err := direct(t).Run(t.Context(), newJob(t, "fake:fork,lines=1"), &out)
		require.NoError(t, err)
		require.False(t, running(child(t, out.Text())))
	})
}

func TestLetGoAndResume(t *testing.T) {
	t.Parallel()
	r, job := supervised(t), newJob(t, "fake:lines=400,delay=2ms")
	var out runnertest.Recorder
	follow := r.Run
	for n := 1; n <= 3; n++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancelWhen(&out, fmt.Sprintf("line %d\n", n*80), func() { cancel(runner.ErrDetach) })
		_, err := follow(ctx, job, &out)
		require.ErrorIs(t, err, runner.ErrDetach)
		follow = func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			return r.Resume(ctx, job, out.(*runnertest.Recorder).Position(), out)
		}
	}
	result, err := follow(t.Context(), job, &out)
	require.NoError(t, err)
	require.Equal(t, lines(0, 400), out.Text())
	require.False(t, result.Ended.IsZero())
}

func TestResumeAndCancel(t *testing.T) {
	t.Parallel()
	r, job := supervised(t), newJob(t, "fake:fork-session,lines=1,hang")
	ctx, letGo := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "line 0\n", func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	require.True(t, running(child(t, out.Text())))

	cause := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	var second runnertest.Recorder
	cancelWhen(&second, "line 0\n", func() { cancel(cause) })
	_, err = r.Resume(ctx, job, 0, &second)
	require.ErrorIs(t, err, cause)
	require.Equal(t, out.Text(), second.Text())
	require.False(t, running(child(t, out.Text())))
}

func TestLetGoEndsWhatCannotBeResumed(t *testing.T) {
	t.Parallel()
	r, job := direct(t), newJob(t, "fake:fork,lines=1,hang")
	ctx, letGo := context.WithCancelCause(t.Context())
	var out runnertest.Recorder
	cancelWhen(&out, "line 0\n", func() { letGo(runner.ErrDetach) })
	_, err := r.Run(ctx, job, &out)
	require.ErrorIs(t, err, runner.ErrDetach)
	require.False(t, running(child(t, out.Text())))
}

func TestANativeBenchmarkWithoutKitt(t *testing.T) {
	t.Parallel()
	r := process.New(process.Config{Command: "/nonexistent/kitt"})
	job := newJob(t, "m")
	job.Mode = runner.ModeNative
	err := r.CheckJob(job)
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.EqualError(t, err, "the command /nonexistent/kitt is not installed on this machine (install kitt on this machine, or choose engine_mode docker)")

	bin := t.TempDir()
	r = process.New(process.Config{Command: kitt, Env: []string{"PATH=" + bin, "HOME=" + bin}})
	_, err = r.Run(t.Context(), job, &runnertest.Recorder{})
	require.ErrorIs(t, err, runner.ErrUnavailable)
	require.EqualError(t, err, "the engine ollama is not installed on this machine: there is no ollama in PATH (install it, or choose engine_mode docker)")
	require.NoError(t, os.WriteFile(filepath.Join(bin, "ollama"), []byte("#!/bin/sh\n"), 0o755))
	require.NoError(t, r.CheckJob(job))
	job.Engine = "vllm"
	require.NoError(t, r.CheckJob(job), "it may be in the environment of a kitt that is no script")
}
