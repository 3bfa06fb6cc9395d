package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModels(t *testing.T) {
	a := newTestedAgent(t)
	share, dir := t.TempDir(), t.TempDir()
	model := filepath.Join(share, "org", "small")
	require.NoError(t, os.MkdirAll(model, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(model, "config.json"), []byte("{}"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(model, "weights.bin"), []byte(strings.Repeat("w", 100_000)), 0o644))
	config, err := os.ReadFile(filepath.Join(a.home, "agent.yaml"))
	require.NoError(t, err)
	config = append(config, "model_storage_dir: "+dir+"\nmodel_share_mount: "+share+"\n"...)
	require.NoError(t, os.WriteFile(filepath.Join(a.home, "agent.yaml"), config, 0o600))

	out, code := a.command(t, "models", "list")
	require.Zero(t, code, out)
	require.Contains(t, out, "No copies.")

	out, code = a.command(t, "models", "pull", filepath.Join(model), "--json")
	require.Zero(t, code, out)
	copied := filepath.Join(dir, "org", "small")
	require.Contains(t, out, copied)
	require.FileExists(t, filepath.Join(copied, "weights.bin"))

	out, code = a.command(t, "models", "list", "--json")
	require.Zero(t, code, out)
	var copies []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &copies))
	require.Len(t, copies, 1)
	require.Equal(t, "org/small", copies[0]["model"])
	require.EqualValues(t, 2, copies[0]["files"])

	out, code = a.command(t, "models", "list")
	require.Zero(t, code, out)
	require.Contains(t, out, "97.7 KiB")
	out, code = a.command(t, "models", "verify")
	require.Zero(t, code, out)
	require.Contains(t, out, "is whole, 97.7 KiB")
	out, code = a.command(t, "models", "rm", "org/small")
	require.Zero(t, code, out)
	require.Contains(t, out, "removed "+copied)
	require.NoDirExists(t, copied)
	require.DirExists(t, model, "the share is left alone")

	out, code = a.command(t, "models", "pull", "org/small")
	require.Zero(t, code, out)
	require.NoError(t, os.WriteFile(filepath.Join(copied, "weights.bin"), []byte(strings.Repeat("v", 100_000)), 0o644))
	out, code = a.command(t, "models", "verify", "org/small")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "weights.bin")
	out, code = a.command(t, "models", "rm", "org/small")
	require.Equal(t, exitFailure, code, "what was asked for was not done")
	require.Contains(t, out, "was not removed")
	out, _ = a.command(t, "models", "rm", "--all", "--json")
	require.Contains(t, out, "changed since it was copied")
	require.DirExists(t, copied, "what somebody changed is not the agent's to delete")

	for _, name := range []string{"org/absent", "qwen2.5:7b"} {
		out, code = a.command(t, "models", "pull", name)
		require.Equal(t, exitFailure, code, "nothing was pulled: %s", out)
		require.Contains(t, out, "there is no model")
	}

	for _, args := range [][]string{{"models"}, {"models", "rm"}, {"models", "rm", "a", "--all"}, {"models", "fly"}, {"models", "pull"}} {
		_, code = a.command(t, args...)
		require.Equal(t, exitUsage, code, "%v", args)
	}
}
