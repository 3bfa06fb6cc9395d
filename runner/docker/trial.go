package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/supervisor"
	"github.com/kirizan/kitt-agent/runner/supervisor/program"
)

// A Trial is what Try found out.
type Trial struct {
	// Program is what runs in front of benchmarks, and where it is from.
	Program program.Program

	// Ceiling says whether the output of a run can be kept below Config.LogLimit:
	// the file system makes holes.
	Ceiling bool
}

// ErrNoImage is matched by the error of a Try without an image to try with.
var ErrNoImage = errors.New("there is no image to try it with")

// tryPause is the time between two looks at a trial.
const tryPause = 50 * time.Millisecond

// Try starts a container of the image, Config.DefaultImage if it is empty, with the mounts that a
// benchmark gets below dir, runs the supervisor in it and removes it. The error
// says what can't work here: an engine on another machine, a file system mounted
// noexec, a user namespace or SELinux that keeps the container from its files.
func (r *Runner) Try(ctx context.Context, image, dir string) (trial Trial, err error) {
	if trial.Program, err = r.program.Find(ctx); err != nil {
		return trial, err
	}
	proxy, err := r.findProxy(ctx)
	if err != nil {
		return trial, err
	}
	work, err := os.MkdirTemp(dir, "try-")
	if err != nil {
		return trial, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if dir, err = real(work); err != nil {
		return trial, err
	}
	job := runner.Job{ID: "try-" + strings.TrimPrefix(dir[strings.LastIndexByte(dir, '/')+1:], "try-"), Dir: dir, ResultsDir: dir}
	var silent silence
	files, err := makeRunFiles(job, silent)
	if err != nil {
		return trial, err
	}
	defer func() { err = errors.Join(err, files.close()) }()

	if err := r.startProxy(ctx, job, proxy); err != nil {
		return trial, err
	}
	defer func() { err = errors.Join(err, socketproxy.End(context.WithoutCancel(ctx), proxyDir(job))) }()
	config, host, err := r.describe(ctx, job, cmp.Or(image, r.config.DefaultImage), trial.Program)
	if err != nil {
		return trial, r.cantTry(err, trial.Program)
	}
	config.Entrypoint = r.entrypoint(job, trial.Program, programTarget)
	config.Cmd = append(trial.Program.Args[:len(trial.Program.Args):len(trial.Program.Args)], "-check")
	config.Labels = map[string]string{LabelOwner: r.config.Owner}
	id, err := r.createAs(ctx, "kitt-"+job.ID, config, host)
	if err != nil {
		return trial, r.cantTry(err, trial.Program)
	}
	defer func() { err = errors.Join(err, r.remove(context.WithoutCancel(ctx), id)) }()
	if err := r.start(ctx, id); err != nil {
		return trial, r.cantTry(err, trial.Program)
	}
	if err := r.awaitExit(ctx, id); err != nil {
		return trial, err
	}
	end, found, err := files.dir.Exit()
	f := &follower{r: r, job: job, out: silent, id: id}
	switch {
	case err != nil:
		return trial, err
	case !found:
		return trial, r.cantTry(fmt.Errorf("a container can't write to %s%s", runDir(job), f.lastWords(ctx)), trial.Program)
	case end.Err() != nil:
		return trial, fmt.Errorf("a program in a container fails: %w", end.Err())
	}
	_, err = os.Lstat(runDir(job) + "/" + supervisor.GapsFile)
	trial.Ceiling = err == nil
	return trial, nil
}

// awaitExit returns once the container has ended.
func (r *Runner) awaitExit(ctx context.Context, id string) error {
	for {
		c, err := r.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		if err != nil {
			return err
		}
		if state := c.Container.State; state == nil || state.Status != container.StateRunning {
			return nil
		}
		if err := base.Wait(ctx, tryPause); err != nil {
			return fmt.Errorf("the container doesn't end: %w", err)
		}
	}
}

// cantTry adds to what the engine said what is likely behind it.
func (r *Runner) cantTry(err error, p program.Program) error {
	e := &runner.Error{Class: runner.ClassUnavailable, Text: base.OneLine(err.Error()), Err: err}
	text := err.Error()
	switch {
	case strings.Contains(text, "No such image"):
		return fmt.Errorf("%w: %w", ErrNoImage, err)
	case strings.Contains(text, "bind source path does not exist"), !strings.HasPrefix(r.engine.DaemonHost(), "unix://"):
		e.Fix = "use the engine of this machine: one elsewhere doesn't see the agent's files"
	case strings.Contains(text, "can't write to"):
		e.Fix = "a user namespace, a rootless engine or SELinux keeps containers from the agent's files; see docs/containers.md"
	case strings.Contains(text, "permission denied"), strings.Contains(text, "operation not permitted"):
		e.Fix = fmt.Sprintf("is the file system of %s mounted noexec? Name a kitt-supervise on another one as supervisor in agent.yaml", p.Path)
	}
	return e
}

// silence is an Output that drops everything.
type silence struct{}

func (silence) WriteMessage(string) error                            { return nil }
func (silence) WriteOutput([]byte, time.Time, runner.Position) error { return nil }
