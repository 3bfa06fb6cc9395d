package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
)

// trialLimit is what the check of containers may take: the supervisor's program
// may have to be built.
const trialLimit = 2 * time.Minute

// containersCheck tries what a benchmark's container needs of this machine: its
// supervisor's program, and the directory that it writes its output to.
func containersCheck(cfg *config.Config, containers *docker.Runner) preflight.Check {
	return preflight.Func{Label: "containers", Time: trialLimit, Do: func(ctx context.Context) preflight.Result {
		if cfg.Runner == "process" || cfg.Runner == "simulated" {
			return preflight.Result{Status: preflight.Skip, Details: "benchmarks don't run in containers here"}
		}
		err := containers.Ready(ctx)
		if e, ok := errors.AsType[*runner.Error](err); ok && e.Class == runner.ClassEngine {
			return preflight.Result{Status: preflight.Skip, Details: "the Docker engine does not answer"}
		}
		if err != nil {
			return failed(err)
		}
		if err := os.MkdirAll(cfg.Home, 0o700); err != nil {
			return failed(err)
		}
		trial, err := containers.Try(ctx, cfg.KITTImage, cfg.Home)
		switch {
		case errors.Is(err, docker.ErrNoImage):
			return preflight.Result{Status: preflight.Skip, Details: fmt.Sprintf("there is no image %s to try it with", cmp.Or(cfg.KITTImage, docker.DefaultImage))}
		case err != nil:
			return failed(err)
		case !trial.Ceiling && cfg.Limits.Log > 0:
			return preflight.Result{
				Status:  preflight.Warn,
				Details: fmt.Sprintf("limits.log has no effect: the file system of %s makes no holes in files", cfg.Home),
				Fix:     "keep KITT_HOME on ext4, XFS, Btrfs or ZFS",
			}
		}
		return preflight.Result{Status: preflight.OK, Details: fmt.Sprintf("output and outcome reach the agent; supervisor: %s, %s", trial.Program.Path, trial.Program.From)}
	}}
}

// failed returns the result of a check that err ended, with what mends it.
func failed(err error) preflight.Result {
	r := preflight.Result{Status: preflight.Fail, Details: err.Error()}
	if e, ok := errors.AsType[*runner.Error](err); ok {
		r.Details, r.Fix = e.Text, e.Fix
	}
	r.Fix = cmp.Or(r.Fix, "docker info")
	return r
}
