package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/internal/base/basetest"
	"github.com/kirizan/kitt-agent/runner"
)

// TestSecretsLeaveByNoWay has benchmarks that show a secret wherever they can: in
// the log, in what they measured, and in their errors.
func TestSecretsLeaveByNoWay(t *testing.T) {
	const secret = "hf_Qk7zSecret"
	synctest.Test(t, func(t *testing.T) {
		srv, dir := &agenttest.Server{}, t.TempDir()
		var log basetest.Buffer
		run := func(_ context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			fmt.Fprintln(runner.OutputWriter(out), "env HF_TOKEN="+secret)
			text, err := json.Marshal(map[string]any{"env": []any{map[string]any{"HF_TOKEN": secret}}, "metrics": map[string]any{secret: 1}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(job.ResultsDir, runner.MetricsFile), text, 0o600))
			if job.Model == "fails" {
				err = &runner.Error{Class: "error", Text: "401 for " + secret, Fix: "check " + secret, Err: errors.New(secret)}
			}
			return runner.Result{}, err
		}
		a, stop := start(t, agent.Config{
			Dir: dir, Server: srv, Runner: &play{run: run}, Secrets: []string{secret},
			Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		ends, fails := srv.Launch("ends"), srv.Launch("fails")
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), ends, "completed"))
		require.NoError(t, srv.Wait(within(t, 5*time.Minute), fails, "failed"))
		_, reason := srv.Status(fails)
		require.Equal(t, "401 for [redacted] (check [redacted])", reason)
		seen := fmt.Sprint(srv.Lines(ends), srv.Lines(fails), srv.Results(), a.Status())
		stop()
		require.Contains(t, seen, "HF_TOKEN:[redacted]")
		require.NotContains(t, seen, secret)
		require.NotContains(t, log.String(), secret)
		require.Contains(t, log.String(), "401 for [redacted]")
		for _, file := range filesWith(t, dir, secret) {
			require.Equal(t, runner.MetricsFile, filepath.Base(file), "only the benchmark's own file may hold it")
		}
	})
}

// filesWith returns the files below dir that hold text.
func filesWith(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(bytes.ToValidUTF8(content, nil)), text) {
			files = append(files, path)
		}
		return err
	}))
	return files
}
