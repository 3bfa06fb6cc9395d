package main

import (
	"path/filepath"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/runner/engine/native"
)

// enginesDir returns the directory of the engines of this machine itself.
func enginesDir(cfg *config.Config) string { return filepath.Join(cfg.Home, "engines") }

// enginesConfig returns what agent.yaml says of these engines.
func enginesConfig(cfg *config.Config) native.Config {
	return native.Config{
		Dir:          enginesDir(cfg),
		Listen:       cfg.Policy.Engines.Listen,
		StartTimeout: cfg.Engines.StartTimeout,
		StopGrace:    cfg.StopGrace,
		Packages:     cfg.Engines.Packages,
	}
}
