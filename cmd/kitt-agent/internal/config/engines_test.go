package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/runner/engine/native"
)

// fromText returns the settings of an agent.yaml.
func fromText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, "agent.yaml"), []byte(text), 0o600))
	c, _, err := Sources{Getenv: environ("KITT_HOME", home)}.Resolve()
	return c, err
}

func TestEngines(t *testing.T) {
	t.Parallel()
	digest := strings.Repeat("0a", 32)
	c, err := fromText(t, `
engines:
  on_conflict: wait 45m
  start_timeout: 20m
  packages:
    llama_cpp: {version: b7000, url: "https://example.org/llama-b7000.zip", sha256: `+digest+`}
policy:
  engines: {start: [llama_cpp], install: [llama_cpp], listen: 10.0.0.5}
`)
	require.NoError(t, err)
	require.Equal(t, agent.EngineConflict{Wait: 45 * time.Minute}, c.Engines.OnConflict)
	require.Equal(t, 20*time.Minute, c.Engines.StartTimeout)
	require.Equal(t, map[string]native.Package{"llama_cpp": {Version: "b7000", URL: "https://example.org/llama-b7000.zip", SHA256: digest}}, c.Engines.Packages)
	require.Equal(t, EnginePolicy{Start: []string{"llama_cpp"}, Install: []string{"llama_cpp"}, Listen: "10.0.0.5"}, c.Policy.Engines)

	for text, want := range map[string]agent.EngineConflict{
		"fail": {}, "wait": {Wait: 30 * time.Minute}, "stop_and_restart": {Restart: true},
	} {
		c, err := fromText(t, "engines: {on_conflict: "+text+"}")
		require.NoError(t, err)
		require.Equal(t, want, c.Engines.OnConflict)
	}
	for text, want := range map[string]string{
		"engines: {on_conflict: never}":                                     "it is not one of these",
		"engines: {on_conflict: wait 0s}":                                   "the time is not from 1s to 7d",
		"engines: {packages: {tgi: {}}}":                                    "tgi: it is not an engine that an agent can start",
		"engines: {packages: {ollama: {script: x}}}":                        "ollama: script: it is not version, url or sha256",
		"engines: {packages: {ollama: {version: 1, url: x, sha256: x}}}":    "ollama: sha256",
		"engines: {packages: [ollama]}":                                     "it is not a map",
		"policy: {engines: {install: [all]}}":                               "it is not an engine that an agent can start",
		"policy: {engines: {listen: everywhere}}":                           "IP address",
		"engines: {packages: {ollama: {version: 1, url: {}, sha256: abc}}}": "ollama: url",
	} {
		_, err := fromText(t, text)
		require.ErrorContains(t, err, want, text)
	}
}
