package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/preflight/dockercheck"
)

// newPreflightCommand returns `kitt-agent preflight`.
func newPreflightCommand(env *environment) *cobra.Command {
	keys := map[string]string{"server": "server_url", "port": "port", "model-dir": "model_storage_dir"}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Check whether this machine has what the agent needs",
		Long: `Check whether this machine has what the agent needs: the Docker engine and its access
to the GPUs, KITT's image, the NVIDIA driver, disk space, the server, the port and more.
With runner: slurm, a probe job shows that nodes see the shared directory.
All checks run at once, each with a time limit. For what fails, the command that mends
it is shown.

Exits with 1 if a check that is required fails.`,
		Example: "  kitt-agent preflight\n  kitt-agent preflight --server https://server:8080 --port 8090\n  kitt-agent preflight --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := env.config(changed(cmd, keys))
			if err != nil {
				return err
			}
			results, err := env.preflight(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if asJSON {
				err = preflight.WriteJSON(env.stdout, results)
			} else {
				err = writeChecks(env.stdout, results)
			}
			if err == nil && preflight.ExitStatus(results) != 0 {
				return &codedError{code: exitFailure}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.String("server", "", "`URL` of the KITT server, in place of the configured one")
	flags.Int("port", 0, "`port` of the agent's own API, in place of the configured one")
	flags.String("model-dir", "", "`directory` for copies of models, in place of the configured one")
	env.insecureFlag(cmd)
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// preflight runs all checks. At a terminal each result is shown on standard
// error as it comes, as is the progress of an image's pull.
func (env *environment) preflight(ctx context.Context, cfg *config.Config) (_ []preflight.Result, err error) {
	var mu sync.Mutex // results and progress come from several goroutines
	say := func(string) {}
	if logging.IsTerminal(env.stderr) {
		say = func(line string) {
			mu.Lock()
			defer mu.Unlock()
			env.say("%s", line)
		}
	}
	system, err := standard.NewDetector(hwdetect.Config{ModelDir: modelDir(cfg)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, system.Close()) }()
	docker, err := dockercheck.New(dockercheck.Config{Image: cfg.KITTImage, Progress: say})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, docker.Close()) }()
	containers, err := newContainers(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, containers.Close()) }()
	checks := append(machineChecks(cfg, system, docker), preflight.Port(cfg.Port, cfg.Name), preflight.ConfigFile(cfg.Path))
	checks = append(checks, serverChecks(cfg)...)
	if cfg.Runner == runnerSlurm {
		checks = append(checks, slurmChecks(cfg)...)
	} else {
		checks = append(append(checks, containersCheck(cfg, containers)), docker.All()...)
	}
	checks = append(checks, policyCheck(cfg)...)
	return preflight.Run(ctx, checks, func(r preflight.Result) { say(checkLine(r)) }), nil
}

// machineChecks returns the checks of the machine itself. With Slurm, its nodes are not
// asked to be like it.
func machineChecks(cfg *config.Config, detector hwdetect.Detector, docker *dockercheck.Checks) []preflight.Check {
	checks := []preflight.Check{preflight.NFS(cfg.ModelShareSource), preflight.DiskSpace(modelDir(cfg))}
	if cfg.Runner == runnerSlurm {
		return checks
	}
	return append([]preflight.Check{
		preflight.Python(func(ctx context.Context) bool { return cfg.Runner == "process" || !docker.HasImage(ctx) }),
		preflight.Driver(detector),
	}, checks...)
}

// serverChecks returns the checks of the KITT server.
func serverChecks(cfg *config.Config) []preflight.Check {
	reachable, clock := preflight.Server(preflight.ServerConfig{
		URL:  cfg.ServerURL,
		CA:   config.Expand(cfg.TLS.CA),
		Cert: config.Expand(cfg.TLS.Cert),
		Key:  config.Expand(cfg.TLS.Key),

		Insecure: cfg.Insecure,
		Proxy:    http.ProxyFromEnvironment,
	})
	return []preflight.Check{reachable, clock}
}

// startChecked runs the checks before a start, and refuses to start where what
// is required is missing.
func (env *environment) startChecked(ctx context.Context, cfg *config.Config) error {
	results, err := env.preflight(ctx, cfg)
	if err != nil {
		return err
	}
	failed := preflight.Failed(results)
	if len(failed) == 0 {
		return nil
	}
	if err := writeChecks(env.stderr, results); err != nil {
		return err
	}
	return fmt.Errorf("%d of the required checks failed, so the agent was not started; without --preflight it starts all the same", len(failed))
}
