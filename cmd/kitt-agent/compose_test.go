package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// oddValues are tried for every key.
var oddValues = []string{
	"Registry.example/KITT:Latest", "kitt", "kitt:", "a b", "-x", "ü", "a/b", ".", "*", "[", "%", "$", "$$", "$HOME", "file:/x", "auto",
	"~", "~/", "~me", "/", "//", "/a/../b", "/m", "/m/", "/m/models", "nas:/", "nas:/m", "nas:m", ":/m", "nas:/a\u00a0b",
	"0", "-1", "1", "00", "+5", "1.5", "1e3", "NaN", "Inf", "64", "65", "10", "300", "301", "65535", "65536", "9223372036854775808",
	"1s", "1ms", "0s", "-1s", "1h", "61m", "1d", "365d", "3651d", "1B", "1MiB", "8EiB", "1e30GiB", "true", "no",
	"127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "host:1", "http://a", "http://:80", "http://a:b", "http://[::1", "https://u:p@a", "http://a/?b", "http://a/b/",
	"oom", "slow=1e999", "fail-at=", "crash@0", "\u0085", "a\\u0000",
}

// What the settings file accepts, the agent accepts too. What it rejects, it rejects
// with file and line.
func TestTheFileAcceptsWhatTheAgentAccepts(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	getenv := func(name string) string { return map[string]string{"HOME": home, "KITT_HOME": home}[name] }
	env := &environment{getenv: getenv, stderr: new(strings.Builder)}
	path := filepath.Join(home, "agent.yaml")
	other := map[string]string{"name": "gpu-1", "server_url": "http://server:8080", "model_storage_dir": "/m/models", "token": "t"}
	for _, key := range config.Keys() {
		for _, value := range oddValues {
			text := fileWith(t, key.Name, value, other)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			cfg, _, err := config.Sources{Path: path, Getenv: getenv}.Resolve()
			if err != nil {
				require.Contains(t, err.Error(), path+":1", "%s: %q", key.Name, value)
				continue
			}
			if key.Name == "env" || strings.HasPrefix(key.Name, "tls.") {
				continue // these name what is read at a start
			}
			parts, closer, err := env.compose(cfg, slog.New(slog.DiscardHandler), nil)
			require.NoError(t, err, "%s: %q", key.Name, value)
			_, err = agent.New(parts)
			require.NoError(t, err, "%s: %q", key.Name, value)
			require.NoError(t, closer.Close())
		}
	}
}

// fileWith returns an agent.yaml whose first line has key with value, as text, and as
// a list where the key is one.
func fileWith(t *testing.T, key, value string, other map[string]string) string {
	t.Helper()
	quoted := fmt.Sprintf("%q", value)
	switch key {
	case "allowed_hosts", "allowed_images", "models.dirs",
		"policy.server_may_set", "policy.storage_dirs", "policy.shares", "policy.model_dirs", "policy.images", "policy.engine_images", "policy.caches":
		quoted = "[" + quoted + "]"
	case "env":
		quoted = "{A: " + quoted + "}"
	}
	groups := strings.Split(key, ".")
	text := strings.Join(groups, ": {") + ": " + quoted + strings.Repeat("}", len(groups)-1) + "\n"
	for name, value := range other {
		if name != key {
			text += name + ": " + value + "\n"
		}
	}
	return text
}
