package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/simulated"
	"github.com/kirizan/kitt-agent/storage"
)

// parts are what an agent is made of, and what is to be closed after it.
type parts struct {
	config  agent.Config
	closers []func() error // the last first
}

// Close closes what the agent used.
func (p *parts) Close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// compose makes the parts of the agent that cfg describes. It starts nothing.
func (env *environment) compose(cfg *config.Config, log *slog.Logger) (*parts, error) {
	p := &parts{}
	vars, secrets, err := env.benchmarkVars(cfg)
	if err != nil {
		return nil, err
	}
	server, err := newServer(cfg, log)
	if err != nil {
		return nil, err
	}
	models, err := newStorage(cfg, log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, models.Close)
	machine, closeMachine, err := newSystem(cfg, log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.closers = append(p.closers, closeMachine)
	containers, run, err := env.newRunner(cfg, vars, log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.config = agent.Config{
		Name:              cfg.Name,
		Version:           thisBuild().Version,
		Dir:               cfg.Home,
		Server:            server,
		Runner:            run,
		Storage:           models,
		Detector:          machine,
		Port:              cfg.Port,
		Token:             cfg.Token,
		AllowedHosts:      cfg.AllowedHosts,
		Settings:          agentSettings(cfg),
		GPUs:              agent.GPUPolicy(cfg.GPUs),
		AllowedImages:     cfg.AllowedImages,
		MaxConcurrentJobs: cfg.MaxConcurrentJobs,
		StopGrace:         cfg.StopGrace,
		MaxJobDuration:    cfg.MaxJobDuration,
		DrainTimeout:      cfg.DrainTimeout,
		Keep:              agent.Retention{MaxAge: cfg.Retention.MaxAge, MaxBytes: cfg.Retention.MaxSize},
		Secrets:           append(secrets, cfg.Token.Reveal(), cfg.ServerToken.Reveal()),
		Warnings:          func(context.Context) []string { return tlsWarnings(cfg, time.Now()) },
		Logger:            log,
	}
	if containers != nil {
		p.closers = append(p.closers, containers.Close)
	}
	return p, nil
}

// newServer returns the client of the KITT server.
func newServer(cfg *config.Config, log *slog.Logger) (*kittapi.Client, error) {
	return newServerWithin(cfg, log, 0)
}

// newServerWithin returns one that gives each request so long, 0 for the default.
func newServerWithin(cfg *config.Config, log *slog.Logger, timeout time.Duration) (*kittapi.Client, error) {
	if cfg.ServerURL == "" {
		return nil, &codedError{exitFailure, "no server is configured\ntry: kitt-agent init --server https://server:8080"}
	}
	return kittapi.New(kittapi.Config{
		URL:         cfg.ServerURL,
		Token:       cfg.Token,
		ServerToken: cfg.ServerToken,
		CAFile:      config.Expand(cfg.TLS.CA),
		CertFile:    config.Expand(cfg.TLS.Cert),
		KeyFile:     config.Expand(cfg.TLS.Key),
		Insecure:    cfg.Insecure,
		UserAgent:   "kitt-agent/" + thisBuild().Version,
		Proxy:       http.ProxyFromEnvironment,
		Timeout:     timeout,
		Logger:      log,
	})
}

// newRunner returns the runner that cfg asks for, and the one for containers
// where there is one.
func (env *environment) newRunner(cfg *config.Config, vars []string, log *slog.Logger) (*docker.Runner, runner.Runner, error) {
	if cfg.Runner == "simulated" {
		run, err := simulated.New(simulated.Config{Speed: cfg.Simulated.Speed, Scenario: cfg.Simulated.Scenario})
		return nil, run, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find the agent's own program: %w", err)
	}
	local := process.New(process.Config{
		Env:        append(env.processVars(), vars...),
		Supervisor: []string{exe, superviseCommand},
	})
	// A job whose run one of them began is never given to the other, also when the
	// configuration has changed since.
	containers, err := docker.New(docker.Config{Owner: cfg.Name, Env: vars, Logger: log})
	switch {
	case cfg.Runner == "process" && err != nil:
		return nil, runner.NewFallback(local), nil // the machine needn't know Docker
	case err != nil:
		return nil, nil, err
	case cfg.Runner == "process":
		return containers, runner.NewFallback(local).Former(containers), nil
	case cfg.Runner == "docker":
		return containers, runner.NewFallback(containers).Former(local), nil
	}
	return containers, runner.NewFallback(containers, local), nil
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
		if !ref.Literal() {
			secrets = append(secrets, value.Reveal())
		}
	}
	slices.Sort(vars)
	return vars, secrets, nil
}

// processVars returns the agent's own environment without what is the agent's
// alone: its tokens must not reach a benchmark, nor what systemd hands a service
// to speak of itself with.
func (env *environment) processVars() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return strings.HasPrefix(name, "KITT_") || systemd.IsServiceVar(name)
	})
}

func storageSettings(cfg *config.Config) storage.Settings {
	return storage.Settings{
		Dir:         cfg.ModelStorageDir,
		ShareSource: cfg.ModelShareSource,
		ShareMount:  cfg.ModelShareMount,
		AutoCleanup: cfg.AutoCleanup == nil || *cfg.AutoCleanup,
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
