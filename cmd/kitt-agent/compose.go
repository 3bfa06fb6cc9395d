package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/health"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/simulated"
	staticprogram "github.com/kirizan/kitt-agent/runner/supervisor/program"
	"github.com/kirizan/kitt-agent/storage"
)

// compose returns the agent that cfg describes, and what closes its parts. It
// starts nothing, and follows the engines that an agent before it started. Local benchmarks will be started by start; nil means
// (*exec.Cmd).Start.
func (env *environment) compose(cfg *config.Config, log *slog.Logger, start func(*exec.Cmd) error) (agent.Config, io.Closer, error) {
	vars, secrets, err := env.benchmarkVars(cfg)
	if err != nil {
		return agent.Config{}, nil, err
	}
	secrets = append(secrets, cfg.Token.Reveal(), cfg.ServerToken.Reveal())
	log = slog.New(logstream.NewRedactor(secrets).Handler(log.Handler()))
	tokens := env.newTokenReader(cfg, log)
	settings := serverSettings(cfg, log)
	settings.ReadTokens = tokens.both
	server, err := connect(settings)
	if err != nil {
		return agent.Config{}, nil, err
	}
	parts, err := newParts(cfg, vars, log, start)
	if err != nil {
		return agent.Config{}, nil, err
	}
	run, err := chooseRunner(cfg, parts)
	if err != nil {
		return agent.Config{}, nil, errors.Join(err, parts.Close())
	}
	watch, err := watchMachine(cfg, parts)
	if err != nil {
		return agent.Config{}, nil, errors.Join(err, parts.Close())
	}
	return agent.Config{
		Name:              cfg.Name,
		Version:           thisBuild().Version,
		Dir:               cfg.Home,
		Server:            server,
		Runner:            run,
		Storage:           parts.Storage,
		Detector:          chooseDetector(cfg, parts),
		Engines:           parts.Engines,
		OnConflict:        cfg.Engines.OnConflict,
		Port:              cfg.Port,
		Token:             cfg.Token,
		ReadToken:         tokens.own,
		AllowedHosts:      cfg.AllowedHosts,
		MaxConnections:    cfg.Limits.Connections,
		MaxFollowers:      cfg.Limits.Followers,
		Page:              page(cfg, parts, log),
		Settings:          agentSettings(cfg),
		GPUs:              gpuPolicy(cfg),
		GPUSets:           agent.GPUSets{Sets: cfg.GPUSets, PerJob: cfg.GPUsPerJob},
		Exclusive:         cfg.Exclusive,
		AllowedImages:     cfg.AllowedImages,
		Policy:            policyOf(cfg),
		MaxConcurrentJobs: cfg.MaxConcurrentJobs,
		Integrity:         watch,
		CheckEnginePort:   cfg.Runner != runnerSimulated && cfg.Runner != runnerSlurm && cfg.Policy.Container.Network == string(socketproxy.NetworkHost),
		StopGrace:         cfg.StopGrace,
		MaxJobDuration:    cfg.MaxJobDuration,
		DrainTimeout:      cfg.DrainTimeout,
		Keep:              agent.Retention{MaxAge: cfg.Retention.MaxAge, MaxBytes: cfg.Retention.MaxSize},
		Secrets:           secrets,
		Remarks:           baseline.Of(results.Open(cfg.Home)).Remarks,
		Warnings: func(context.Context) []string {
			return slices.Concat(tlsWarnings(cfg, time.Now()), modeWarnings(cfg), envWarnings(cfg), policyOf(cfg).Wide())
		},
		Problems: func(context.Context) []health.Problem { return tlsProblems(cfg, time.Now()) },
		DiskLow:  diskLow(cfg),
		Logger:   log,
	}, parts, nil
}

// newParts returns the parts of the agent that cfg describes. Benchmarks find vars in
// their environment.
func newParts(cfg *config.Config, vars []string, log *slog.Logger, start func(*exec.Cmd) error) (*standard.Parts, error) {
	local, err := localRuns()
	if err != nil {
		return nil, err
	}
	local.LogLimit, local.Start = logLimit(cfg), start
	kind := standard.Kind(cfg.Runner)
	if cfg.Runner == runnerSimulated {
		kind = standard.Process // see chooseRunner
	}
	return standard.New(standard.Config{
		Name:    cfg.Name,
		Kind:    kind,
		Env:     vars,
		Docker:  dockerConfig(cfg),
		Process: local,
		Slurm:   slurmConfig(cfg),
		Storage: guardStorage(storageConfig(cfg), policyOf(cfg)),
		Engines: enginesConfig(cfg),
		Logger:  log,
	})
}

// machineSource returns what reads the machine: this one, or a simulated one with the
// faults of the simulated benchmarks' scenario.
func machineSource(cfg *config.Config, parts *standard.Parts) integrity.Source {
	faults := cfg.Simulated.Scenario.Machine
	machine, known := hwdetect.Profile(demoProfile)
	if cfg.Runner != runnerSimulated || faults == (simulated.MachineFaults{}) || !known {
		return parts.Detector.Integrity()
	}
	return integrity.NewSimulated(integrity.SimulatedConfig{Machine: machine, Faults: integrity.Faults(faults)})
}

// gpuPolicy says whether benchmarks get the GPUs of this machine. On a cluster they run on
// others, and get what Slurm gives them.
func gpuPolicy(cfg *config.Config) agent.GPUPolicy {
	if cfg.Runner == runnerSlurm {
		return agent.GPUNone
	}
	return agent.GPUPolicy(cfg.GPUs)
}

// watchMachine returns how the machine is watched during benchmarks.
func watchMachine(cfg *config.Config, parts *standard.Parts) (agent.Integrity, error) {
	// Benchmarks on a cluster run on its nodes: the state of this machine says nothing of
	// them, and would be recorded as theirs.
	if !cfg.Integrity.Enabled || cfg.Runner == runnerSlurm {
		return agent.Integrity{}, nil
	}
	rules, err := integrity.SetLimits(integrity.DefaultRules(), cfg.Integrity.Limits)
	return agent.Integrity{
		Source: machineSource(cfg, parts), Interval: cfg.Integrity.Interval, Rules: rules,
		FailInvalid: cfg.Integrity.OnInvalid == "fail",
		WaitIdle:    cmp.Or(cfg.Integrity.WaitIdle, -1), WaitCool: cfg.Integrity.WaitCool, WaitCoolLimit: cfg.Integrity.CoolLimit,
	}, err
}

const runnerSimulated = "simulated"

// chooseRunner returns the runner that cfg asks for: that of parts, or the
// simulated one.
func chooseRunner(cfg *config.Config, parts *standard.Parts) (runner.Runner, error) {
	if cfg.Runner != runnerSimulated {
		return parts.Runner, nil
	}
	return simulated.New(simulated.Config{Speed: cfg.Simulated.Speed, Scenario: cfg.Simulated.Scenario})
}

// newServer returns the client of the KITT server.
func newServer(cfg *config.Config, log *slog.Logger) (*kittapi.Client, error) {
	return newServerWithin(cfg, log, 0)
}

// newServerWithin returns one that gives each request so long, 0 for the default.
func newServerWithin(cfg *config.Config, log *slog.Logger, timeout time.Duration) (*kittapi.Client, error) {
	settings := serverSettings(cfg, log)
	settings.Timeout = timeout
	return connect(settings)
}

// connect returns the client of the KITT server that settings name.
func connect(settings kittapi.Config) (*kittapi.Client, error) {
	if settings.URL == "" {
		return nil, &codedError{exitFailure, "no server is configured\ntry: kitt-agent init --server https://server:8080"}
	}
	return kittapi.New(settings)
}

// serverSettings returns what agent.yaml says of the KITT server.
func serverSettings(cfg *config.Config, log *slog.Logger) kittapi.Config {
	return kittapi.Config{
		URL:         cfg.ServerURL,
		Token:       cfg.Token,
		ServerToken: cfg.ServerToken,
		CAFile:      config.Expand(cfg.TLS.CA),
		CertFile:    config.Expand(cfg.TLS.Cert),
		KeyFile:     config.Expand(cfg.TLS.Key),
		Insecure:    cfg.Insecure,
		UserAgent:   "kitt-agent/" + thisBuild().Version,
		Proxy:       http.ProxyFromEnvironment,
		Logger:      log,
	}
}

// newContainers returns a runner of containers alone, for preflight.
func newContainers(cfg *config.Config) (*docker.Runner, error) { return docker.New(dockerConfig(cfg)) }

// dockerConfig returns what agent.yaml says of containers.
func dockerConfig(cfg *config.Config) docker.Config {
	return docker.Config{
		Owner: cfg.Name, LogLimit: logLimit(cfg), Supervisor: supervisorSource(cfg),
		SocketProxy: staticprogram.Source{Self: []string{socketProxyCommand}, Dir: toolsDir(cfg)},
		LinkDirs:    linkDirs(cfg),

		EngineSocket: docker.EngineSocket(cfg.Policy.EngineSocket),
		EngineImages: cfg.Policy.EngineImages,
		Caches:       expandAll(cfg.Policy.Caches),
		Network:      socketproxy.Network(cfg.Policy.Container.Network),
		User:         cfg.Policy.Container.User,
		CapAdd:       cfg.Policy.Container.CapAdd,
		Pids:         int64(cfg.Policy.Container.Pids),
		ReadOnlyRoot: cfg.Policy.Container.ReadOnlyRoot,

		MemoryPercent: cfg.Policy.Container.MemoryPercent,
	}
}

// expandAll returns paths of which some may begin with ~.
func expandAll(paths []string) (all []string) {
	for _, path := range paths {
		all = append(all, config.Expand(path))
	}
	return all
}

// linkDirs returns where links in a model may lead: where models are kept, and
// models.dirs.
func linkDirs(cfg *config.Config) (dirs []string) {
	for _, dir := range append([]string{cfg.ModelStorageDir, cfg.ModelShareMount}, cfg.Models.Dirs...) {
		if dir = config.Expand(dir); dir != "" {
			dirs = append(dirs, filepath.Clean(dir))
		}
	}
	return dirs
}

// toolsDir returns where programs for benchmarks are unpacked and built; empty for the
// default.
func toolsDir(cfg *config.Config) string {
	if cfg.Home == "" {
		return ""
	}
	return filepath.Join(cfg.Home, "supervisor")
}

// supervisorSource says where the program comes from that runs in front of a
// benchmark in its container. This program is one where it is static.
func supervisorSource(cfg *config.Config) staticprogram.Source {
	return staticprogram.Source{
		Path: config.Expand(cfg.Supervisor), Self: []string{superviseContainerCommand}, Dir: toolsDir(cfg),
	}
}

// diskLow returns the agent's setting: there, 0 is its default.
func diskLow(cfg *config.Config) int64 {
	if cfg.DiskLow == 0 {
		return -1
	}
	return cfg.DiskLow
}

// logLimit returns the runners' setting: there, 0 is their default.
func logLimit(cfg *config.Config) int64 {
	if cfg.Limits.Log == 0 {
		return -1
	}
	return cfg.Limits.Log
}

// benchmarkVars returns the variables that benchmarks get, as NAME=value, and
// the values among them that must not be seen.
func (env *environment) benchmarkVars(cfg *config.Config) (vars, secrets []string, err error) {
	for name, ref := range cfg.Env {
		value, err := ref.Resolve(env.getenv)
		if err != nil {
			return nil, nil, fmt.Errorf("env %s: %w", name, err)
		}
		vars = append(vars, name+"="+value.Reveal())
		if ref.Secret() {
			secrets = append(secrets, value.Reveal())
		}
	}
	slices.Sort(vars)
	return vars, secrets, nil
}

// modeWarnings names files with secrets that other users can read.
func modeWarnings(cfg *config.Config) (said []string) {
	for what, file := range map[string]string{"settings": cfg.Path, "private key": cfg.TLS.Key} {
		if info, err := os.Stat(config.Expand(file)); file != "" && err == nil && info.Mode().Perm()&0o077 != 0 {
			said = append(said, fmt.Sprintf("other users can read the %s in %s (mode %04o); run: chmod 600 %s", what, file, info.Mode().Perm(), file))
		}
	}
	slices.Sort(said)
	return said
}

// envWarnings names the variables whose values may be secrets that everybody sees.
func envWarnings(cfg *config.Config) (said []string) {
	for _, name := range slices.Sorted(maps.Keys(cfg.Env)) {
		if cfg.Env[name].LooksLikeKey() {
			said = append(said, fmt.Sprintf("env: the value of %s looks like a key, and logs and results may show it. "+
				"In agent.yaml write %s: {value: …, secret: true}, or %s: file:/path", name, name, name))
		}
	}
	return said
}

// storageConfig returns how models are kept.
func storageConfig(cfg *config.Config) storage.Config {
	return storage.Config{
		Settings: storage.Settings{
			Dir:         cfg.ModelStorageDir,
			ShareSource: cfg.ModelShareSource,
			ShareMount:  cfg.ModelShareMount,
			AutoCleanup: cfg.AutoCleanup == nil || *cfg.AutoCleanup,
		},
		Owner:        cfg.Name,
		KeepFree:     cfg.Models.KeepFree,
		MaxBytes:     cfg.Models.MaxSize,
		Workers:      cfg.Models.Streams,
		ShareTimeout: cfg.Models.ShareTimeout,
		ModelDirs:    cfg.Models.Dirs,
	}
}

// agentSettings returns the settings that the machine's own configuration
// names; what only has a default is left to the server.
func agentSettings(cfg *config.Config) agent.Settings {
	s := agent.Settings{
		ShareSource: cfg.ModelShareSource,
		ShareMount:  cfg.ModelShareMount,
		AutoCleanup: cfg.AutoCleanup,
		Image:       cfg.KITTImage,
		Interval:    cfg.HeartbeatInterval,
	}
	if cfg.Origin("model_storage_dir") != "default" {
		s.ModelDir = cfg.ModelStorageDir
	}
	return s
}
