package main

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

func TestWithheldVariablesAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	cfg := &config.Config{Home: t.TempDir(), Runner: "auto", Env: map[string]config.Reference{"GIVEN": {}}}
	logged := func(environ ...string) string {
		out.Reset()
		logWithheld(cfg, environ, log)
		return out.String()
	}
	first := []string{"PATH=/bin", "PWD=/", "KITT_HOME=x", "GIVEN=x", "WANDB_API_KEY=secret", "FOO=1"}
	require.Contains(t, logged(first...), `variables="[FOO WANDB_API_KEY]"`)
	require.NotContains(t, out.String(), "secret")
	require.Empty(t, logged(first...), "as before")
	require.Contains(t, logged("FOO=1", "BAR=2"), `variables="[BAR FOO]"`)
	cfg.Runner = "docker"
	require.Empty(t, logged("OTHER=1"), "there are no local benchmarks")
}
