package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// commands runs Slurm's commands: by argv, never through a shell, each with a deadline.
type commands struct {
	env   []string
	limit time.Duration
	slots chan struct{} // held by each that runs, so that a thousand jobs don't swamp the machine
}

// maxCommands is how many commands run at once.
const maxCommands = 8

func newCommands(env []string, limit time.Duration) commands {
	return commands{env: env, limit: limit, slots: make(chan struct{}, maxCommands)}
}

// lookup returns the path of a command in the PATH of the commands' own environment.
func (c commands) lookup(name string) string {
	for _, v := range c.env {
		dirs, found := strings.CutPrefix(v, "PATH=")
		if !found {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(path) {
				return path
			}
		}
	}
	return name
}

// maxOutput is the most bytes that are read of a command: squeue prints about 150 a job.
const maxOutput = 64 << 20

// passed are the variables that Slurm's commands need, as patterns of path.Match.
var passed = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "SLURM_CONF", "LD_LIBRARY_PATH", "MODULEPATH", "XDG_RUNTIME_DIR"}

// commandEnv returns what Slurm's commands get of an environment. The job gets it too,
// since sbatch passes it on: it holds no secrets of this program's.
func commandEnv(environ []string) (env []string) {
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if slices.ContainsFunc(passed, func(pattern string) bool {
			ok, _ := path.Match(pattern, name) // the patterns are well formed
			return ok
		}) {
			env = append(env, v)
		}
	}
	return env
}

// A commandError is the failure of one of Slurm's commands.
type commandError struct {
	name string
	text string // what it said, on one line
	err  error
}

func (e *commandError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s: %v", e.name, e.err)
	}
	return e.name + ": " + e.text
}

func (e *commandError) Unwrap() error { return e.err }

// errDeadline is the cause of the end of a command that takes too long.
var errDeadline = errors.New("no answer in time")

// run runs a command with the text as its standard input and returns what it printed.
func (c commands) run(ctx context.Context, input, name string, args ...string) (string, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, errDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.lookup(name), args...)
	// Times without a zone are then of UTC.
	cmd.Env = append(slices.Clone(c.env), "TZ=UTC", "LC_ALL=C", "SLURM_TIME_FORMAT=standard")
	cmd.WaitDelay = time.Second
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	stdout, stderr := &limited{most: maxOutput}, &limited{most: 16 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && stdout.cut {
		err = fmt.Errorf("it printed more than %d bytes", maxOutput)
	}
	if err != nil {
		return stdout.buf.String(), &commandError{name, base.Printable(base.OneLine(stderr.buf.String()), 500), err}
	}
	return stdout.buf.String(), nil
}

// cancel cancels one job by its ID. Slurm compares the name too: after its controller has
// lost jobs it gives their IDs to others.
func (c commands) cancel(ctx context.Context, id, name string, options ...string) error {
	if !isID(id) {
		return fmt.Errorf("%q is not the ID of a Slurm job", id)
	}
	_, err := c.run(ctx, "", "scancel", slices.Concat([]string{"--name=" + name}, options, []string{id})...)
	return err
}

// isID reports whether text is the ID of one job.
func isID(text string) bool {
	return text != "" && len(text) <= 20 && strings.Trim(text, "0123456789") == ""
}

// limited keeps the first bytes that are written to it. The buffer is a field: embedded,
// its method ReadFrom would go round the limit.
type limited struct {
	buf  bytes.Buffer
	most int
	cut  bool
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.most-l.buf.Len())
	l.cut = l.cut || keep < len(p)
	l.buf.Write(p[:keep])
	return len(p), nil
}
