package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// Machines that keep their models in different places are one model on the
// server's pages.
func TestAResultNamesTheModelAlikeOnEveryMachine(t *testing.T) {
	t.Parallel()
	hashes := map[string]bool{}
	for _, requested := range []string{"org/Model", "SHARE/org/Model"} {
		for _, name := range []string{"one", "two"} {
			share, dir := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(share, "org/Model"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(share, "org/Model/config.json"), []byte("{}"), 0o644))
			models, err := storage.New(storage.Config{Settings: storage.Settings{Dir: dir, ShareMount: share}})
			require.NoError(t, err)
			srv := &agenttest.Server{}
			_, stop := start(t, agent.Config{Name: name, Server: srv, Storage: models, Runner: &play{run: prints(1, 0)}})
			id := srv.Launch(strings.Replace(requested, "SHARE", share, 1))
			require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
			stop()
			require.NoError(t, models.Close())
			data := srv.Results()[0].Data
			require.Equal(t, "org/Model", data["model"])
			require.Equal(t, filepath.Join(dir, "org/Model"), data["model_path"])
			hash, _ := data["agent"].(map[string]any)["model_hash"].(string)
			require.NotEmpty(t, hash)
			hashes[hash] = true
		}
	}
	require.Len(t, hashes, 1, "the same files have the same hash everywhere")
}

// A result says what the agent knows about its run, apart from what was measured.
func TestAResultSaysHowItWasMade(t *testing.T) {
	t.Parallel()
	image := runner.Image{Name: "kitt:latest", ID: "sha256:aa", Digest: "registry.example/kitt@sha256:bb"}
	run := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		result, err := prints(1, 0)(ctx, job, out)
		result.Runner, result.Image = "docker", image
		forged := `{"agent": {"schema": "forged"}, "results": [{"test_name": "t", "metrics": {"avg_tps": 1.5}}]}`
		return result, errors.Join(err, os.WriteFile(filepath.Join(job.ResultsDir, "metrics.json"), []byte(forged), 0o600))
	}}
	machine := &hwdetect.Machine{GPUs: []hwdetect.GPU{{Index: 0, UUID: "GPU-1", Model: "NVIDIA H200", MemoryBytes: 150_754_820_096}}}
	srv := &agenttest.Server{}
	_, stop := start(t, agent.Config{Name: "gpu-07", Version: "1.2.3", Server: srv, Runner: run, GPUs: agent.GPUAll, Detector: hwdetecttest.NewFake(machine)})
	defer stop()
	id := srv.Queue(heartbeat.Command{ID: "c1", Type: agent.TypeRunTest, Payload: json.RawMessage(
		`{"model_path":"org/m","engine_name":"llama_cpp","suite_name":"quick","engine_mode":"docker","benchmark_name":"latency"}`)})
	require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
	data := srv.Results()[0].Data
	require.Equal(t, "org/m", data["model"])
	info, ok := data["agent"].(map[string]any)
	require.True(t, ok)
	require.NotEmpty(t, info["fingerprint"])
	delete(info, "fingerprint")
	require.NotEmpty(t, info["id"])
	delete(info, "id")
	require.Equal(t, map[string]any{
		"schema": "kitt-agent/result/1", "name": "gpu-07", "version": "1.2.3", "command_id": "c1", "test_id": id,
		"model": "org/m", "model_path": "org/m", "model_origin": "identifier", "engine": "llama_cpp", "engine_mode": "docker", "suite": "quick",
		"benchmark": "latency", "runner": "docker",
		"image": map[string]any{"name": "kitt:latest", "id": "sha256:aa", "digest": "registry.example/kitt@sha256:bb"},
		"gpus":  []any{map[string]any{"index": 0.0, "uuid": "GPU-1", "model": "NVIDIA H200", "memory_bytes": 150754820096.0}},
	}, info)
	require.Equal(t, map[string]any{"avg_tps": 1.5}, data["results"].([]any)[0].(map[string]any)["metrics"])
}
