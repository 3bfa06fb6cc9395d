package slurm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

const (
	// specWait is how long the job's files may take to be seen on the node.
	specWait = time.Minute

	// describeLimit is how long a description of the node may take.
	describeLimit = 30 * time.Second

	// afterLimit is how long Spec.After may take.
	afterLimit = time.Minute
)

// NodeWord is the argument with which this module's programs call RunOnNode.
const NodeWord = "run-on-node"

// RunOnNode is the whole of the wrapper, the program that Slurm starts on a node. The
// last of args is the path of spec.json. It returns the status to exit with: the
// benchmark's, 0 if the job was begun before or is cancelled, and
// [supervisor.StatusFailed] if it could not be begun.
func RunOnNode(args []string, stdout io.Writer) int {
	say := func(format string, args ...any) { fmt.Fprintf(stdout, "kitt-agent: "+format+"\n", args...) }
	if len(args) == 0 {
		say("the path of %s is missing", specFile)
		return supervisor.StatusFailed
	}
	dir := filepath.Dir(args[len(args)-1])
	spec, err := awaitSpec(dir)
	if err != nil {
		say("%v; is the shared directory mounted here by the same path?", err)
		return supervisor.StatusFailed
	}
	if supervisor.Cancelled(dir) {
		say("not started: the job is cancelled")
		return 0
	}
	if base.Exists(filepath.Join(dir, claimFile)) {
		say("not started: the benchmark was begun before, see %s", filepath.Join(dir, claimFile))
		return 0
	}
	// Until the benchmark is claimed, a signal just ends this process.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	describe(ctx, spec, dir, say)
	job, release, err := fetch(ctx, spec, dir)
	defer release()
	ended := ctx.Err() != nil
	stop()
	switch {
	case ended:
		say("not started: asked to end before the benchmark began")
		return supervisor.StatusFailed
	case err != nil:
		say("not started: %v", err)
		return supervisor.StatusFailed
	}
	job.GPUs = strings.FieldsFunc(os.Getenv("CUDA_VISIBLE_DEVICES"), func(r rune) bool { return r == ',' })
	return supervise(spec, job, dir, say)
}

// supervise runs the benchmark.
func supervise(spec Spec, job runner.Job, dir string, say func(string, ...any)) int {
	env := append(os.Environ(), spec.Env...)
	errCancelled := errors.New("the job is cancelled")
	end, err := supervisor.Run(supervisor.Config{
		Dir: dir, Command: Command(spec.Command, job), Env: env, WorkDir: dir, Limit: spec.Limit, Forward: true,
		Shared: &supervisor.Shared{Label: label(), Grace: spec.Grace},
		Wanted: func() error {
			if supervisor.Cancelled(dir) {
				return errCancelled
			}
			return nil
		},
		Ended: func() {
			if len(spec.After) > 0 {
				runAfter(render(spec.After, job), env, say)
			}
		},
	})
	switch {
	case errors.Is(err, supervisor.ErrTaken), errors.Is(err, errCancelled):
		say("not started: %v", err)
		return 0
	case err != nil:
		say("%v", err)
		return supervisor.StatusFailed
	case end.Error != "":
		say("not started: %s", end.Error)
		return supervisor.StatusFailed
	}
	return end.Code
}

// awaitSpec reads what to run. The file is older than the job, but this machine may see
// it late.
func awaitSpec(dir string) (Spec, error) {
	for end := time.Now().Add(specWait); ; time.Sleep(time.Second) {
		spec, err := readState[Spec](dir, specFile)
		if err == nil || !errors.Is(err, os.ErrNotExist) && !base.Transient(err) || time.Now().After(end) {
			return spec, err
		}
		// Reading the directory has this machine look at it again.
		_, _ = os.ReadDir(dir)
	}
}

// describe writes what the node's description prints to machine.json. A benchmark runs
// without it too.
func describe(ctx context.Context, spec Spec, dir string, say func(string, ...any)) {
	if len(spec.Describe) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, describeLimit)
	defer cancel()
	stdout := &limited{most: maxMachine}
	cmd := exec.CommandContext(ctx, spec.Describe[0], spec.Describe[1:]...)
	cmd.Stdout, cmd.WaitDelay = stdout, time.Second
	err := cmd.Run()
	if err == nil && stdout.cut {
		err = fmt.Errorf("it prints more than %d bytes", maxMachine)
	}
	if err == nil && !json.Valid(stdout.buf.Bytes()) {
		err = errors.New("what it prints is not JSON")
	}
	if err == nil {
		err = base.WriteFile(filepath.Join(dir, MachineFile), stdout.buf.Bytes())
	}
	if err != nil {
		say("this node is not described: %s: %v", spec.Describe[0], err)
	}
}

// maxMachine bounds a description of a node, in bytes.
const maxMachine = 1 << 20

// fetch brings the model to this node, and returns the job with its paths here. The model
// stays until release is called.
func fetch(ctx context.Context, spec Spec, dir string) (job runner.Job, release func(), err error) {
	release = func() {}
	if len(spec.Fetch) == 0 {
		return spec.Job, release, nil
	}
	cmd := exec.CommandContext(ctx, spec.Fetch[0], spec.Fetch[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return spec.Job, release, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return spec.Job, release, err
	}
	if err := cmd.Start(); err != nil {
		return spec.Job, release, fmt.Errorf("bring the model to this node: %w", err)
	}
	err = json.NewEncoder(stdin).Encode(spec.Job)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(stdout, maxState)).Decode(&job)
	}
	release = func() {
		stdin.Close()
		// The supervisor may have waited for it already.
		_ = cmd.Wait()
	}
	if err != nil {
		return spec.Job, release, fmt.Errorf("bring the model to this node: %s ended without an answer: %w", spec.Fetch[0], err)
	}
	return job, release, nil
}

// label names the run for people: Slurm's job, how often it was restarted, and the node.
func label() string {
	return base.Printable(fmt.Sprintf("Slurm job %s, restart %s, node %s",
		cmp.Or(os.Getenv("SLURM_JOB_ID"), "?"), cmp.Or(os.Getenv("SLURM_RESTART_COUNT"), "0"), cmp.Or(os.Getenv("SLURMD_NODENAME"), "?")), 200)
}

// runAfter runs a command that ends what the benchmark has started elsewhere.
func runAfter(command, env []string, say func(string, ...any)) {
	ctx, cancel := context.WithTimeout(context.Background(), afterLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.WaitDelay = env, time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		say("%s: %v: %s", command[0], err, base.Printable(base.OneLine(string(out)), 300))
	}
}
