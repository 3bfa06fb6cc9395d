package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/agent/webpage"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/preflight/dockercheck"
)

// page returns what makes the page of an agent; nil if it is to have none.
func page(cfg *config.Config, parts *standard.Parts, log *slog.Logger) func(*agent.Agent) http.Handler {
	if !cfg.Page {
		return nil
	}
	return func(a *agent.Agent) http.Handler {
		return webpage.New(webpage.Config{
			Agent:     a,
			Models:    parts.Storage.List,
			Preflight: func(ctx context.Context) ([]preflight.Result, error) { return quietChecks(ctx, cfg, parts) },
			Settings:  func() []webpage.Setting { return settingsInForce(cfg) },
			Logger:    log,
		})
	}
}

// settingsInForce returns all settings with what they are set to and where.
func settingsInForce(cfg *config.Config) (all []webpage.Setting) {
	keys := config.Keys()
	for i, s := range cfg.Settings() { // in the order of Keys
		all = append(all, webpage.Setting{Name: s.Key, Value: s.Value, Source: s.Origin, Meaning: keys[i].Meaning})
	}
	return all
}

// quietChecks runs those checks of preflight that start no container, pull no image and
// open no port: what an agent that runs can bear at any time.
func quietChecks(ctx context.Context, cfg *config.Config, parts *standard.Parts) (_ []preflight.Result, err error) {
	docker, err := dockercheck.New(dockercheck.Config{Image: cfg.KITTImage})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, docker.Close()) }()
	checks := append(machineChecks(cfg, parts.Detector, docker), serverChecks(cfg)...)
	checks = append(checks, preflight.ConfigFile(cfg.Path), docker.Engine(), docker.Image(), docker.Space(), docker.ControlGroups())
	checks = append(checks, policyCheck(cfg)...)
	return preflight.Run(ctx, checks, nil), nil
}
