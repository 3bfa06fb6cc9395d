package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/runner/engine/native"
)

// Engines says how the engines of this machine itself are run.
type Engines struct {
	OnConflict   agent.EngineConflict
	StartTimeout time.Duration
	Packages     map[string]native.Package // by engine
}

// EnginePolicy is what the owner allows to be done with these engines. A nil list is one
// that nothing names.
type EnginePolicy struct {
	Start   []string
	Install []string
	Listen  string // an IP address
}

// defaultWait is how long `wait` waits where it names no time.
const defaultWait = 30 * time.Minute

// engineKeys are the settings of native engines.
func engineKeys() []Key {
	return []Key{
		{Name: "engines.on_conflict", Env: "KITT_ENGINES_ON_CONFLICT", Allowed: "fail, stop_and_restart, or wait and a time such as wait 30m", Default: "fail",
			Meaning: "what becomes of a benchmark while an engine that the agent started holds the GPUs",
			set:     onConflict},
		{Name: "engines.start_timeout", Env: "KITT_ENGINES_START_TIMEOUT", Allowed: "1s to 1d", Default: "10m",
			Meaning: "what an engine gets to become healthy after its start",
			set:     duration(func(c *Config) *durationOf { return &c.Engines.StartTimeout }, second, day)},
		{Name: "engines.packages", Allowed: "for each of llama_cpp and ollama a version, a url that ends in .tar.gz, .tgz or .zip, and its sha256", Default: "none",
			Meaning: "what install_engine installs, where policy.engines.install allows it",
			set:     enginePackages},
		{Name: "policy.engines.start", Allowed: "a list of vllm, llama_cpp and ollama", Default: "all of them",
			Meaning: "engines of this machine that the server may have started and stopped",
			set:     list(func(c *Config) *[]string { return &c.Policy.Engines.Start }, policy.EngineRule)},
		{Name: "policy.engines.install", Allowed: "a list of llama_cpp and ollama", Default: "none",
			Meaning: "engines that the server may have installed, from engines.packages",
			set:     list(func(c *Config) *[]string { return &c.Policy.Engines.Install }, policy.InstallRule)},
		{Name: "policy.engines.listen", Env: "KITT_POLICY_ENGINES_LISTEN", Allowed: "an IP address", Default: "127.0.0.1",
			Meaning: "address that started engines listen on; they ask nobody for a key",
			set:     text(func(c *Config) *string { return &c.Policy.Engines.Listen }, checkListen)},
	}
}

// onConflict sets engines.on_conflict.
func onConflict(c *Config, n *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		word, limit, _ := strings.Cut(value, " ")
		switch {
		case value == "fail":
			c.Engines.OnConflict = agent.EngineConflict{}
		case value == "stop_and_restart":
			c.Engines.OnConflict = agent.EngineConflict{Restart: true}
		case value == "wait":
			c.Engines.OnConflict = agent.EngineConflict{Wait: defaultWait}
		case word == "wait":
			d, err := ParseDuration(strings.TrimSpace(limit))
			if err != nil {
				return err
			}
			if d < second || d > 7*day {
				return errors.New("the time is not from 1s to 7d")
			}
			c.Engines.OnConflict = agent.EngineConflict{Wait: d}
		default:
			return errors.New("it is not one of these")
		}
		return nil
	})(c, n)
}

// enginePackages sets engines.packages.
func enginePackages(c *Config, n *yaml.Node) error {
	packages := map[string]native.Package{}
	err := eachOf(n, func(name string, value *yaml.Node) error {
		if err := policy.InstallRule(name); err != nil {
			return err
		}
		var p native.Package
		fields := map[string]*string{"version": &p.Version, "url": &p.URL, "sha256": &p.SHA256}
		err := eachOf(value, func(key string, value *yaml.Node) error {
			field, ok := fields[key]
			if !ok {
				return errors.New("it is not version, url or sha256")
			}
			text, err := scalar(value)
			*field = text
			return err
		})
		packages[name] = p
		if err != nil {
			return err
		}
		return p.Check()
	})
	if err == nil {
		c.Engines.Packages = packages
	}
	return err
}

// eachOf calls do with each name and value of a map.
func eachOf(n *yaml.Node, do func(name string, value *yaml.Node) error) error {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return errors.New("it is not a map of names and values")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := do(n.Content[i].Value, follow(n.Content[i+1])); err != nil {
			return fmt.Errorf("%.64s: %w", n.Content[i].Value, err)
		}
	}
	return nil
}
