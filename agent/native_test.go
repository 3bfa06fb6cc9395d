package agent_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

// noNative is a runner that has nothing for jobs of mode native, and whose other jobs
// wait for a container engine.
type noNative struct{ play }

func (*noNative) CheckJob(job runner.Job) error {
	if job.Mode != runner.ModeNative {
		return nil
	}
	return &runner.Error{Class: runner.ClassUnavailable, Text: "the command kitt is not installed", Err: runner.ErrUnavailable}
}

// A native benchmark without a local kitt fails before its model is copied.
func TestANativeBenchmarkFailsBeforeItsModelIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run, models := &agenttest.Server{}, &noNative{}, &storagetest.Fake{}
		_, stop := start(t, agent.Config{Server: srv, Runner: run, Storage: models})
		defer stop()
		id := srv.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: json.RawMessage(
			`{"model_path":"/models/m","engine_name":"ollama","suite_name":"quick","benchmark_name":"throughput","engine_mode":"native"}`)})
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		status, reason := srv.Status(id)
		require.Equal(t, "failed", status)
		require.Contains(t, reason, "the command kitt is not installed")
		usage, err := models.Usage(t.Context())
		require.NoError(t, err)
		require.Equal(t, storage.Usage{}.ModelCount, usage.ModelCount, "nothing was copied")
		require.Empty(t, run.ran())
	})
}

// A container engine that is away keeps no native benchmark waiting.
func TestANativeBenchmarkWaitsForNoContainerEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, &engineless{play: play{run: prints(1, 0)}}
		_, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		id := srv.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: json.RawMessage(`{"model_path":"/m","engine_name":"ollama","engine_mode":"native"}`)})
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		status, reason := srv.Status(id)
		require.Equal(t, "completed", status, reason)
		require.Equal(t, runner.ModeNative, run.ran()[0].Mode)
	})
}

// engineless is a runner whose container engine is always away.
type engineless struct{ play }

func (*engineless) CheckStart(context.Context) error { return runner.ErrNotReady }

func TestTheLogSaysThatTheSuiteDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
		defer stop()
		for payload, want := range map[string]string{
			`"suite_name":"performance","benchmark_name":"latency"`: "The suite performance decides which benchmarks run: throughput, latency, memory_usage, warmup_analysis; benchmark_name latency has no effect",
			`"suite_name":"nightly","benchmark_name":"throughput"`:  "",
			`"suite_name":"nightly","benchmark_name":"latency"`:     "The suite nightly, which kitt does not have, decides which benchmarks run: throughput; benchmark_name latency has no effect",
			`"suite_name":"quick","benchmark_name":"throughput"`:    "",
		} {
			id := srv.Queue(heartbeat.Command{Type: agent.TypeRunTest, Payload: json.RawMessage(`{"model_path":"/m","engine_name":"vllm",` + payload + `}`)})
			require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), id))
			lines := strings.Join(srv.Lines(id), "\n")
			if want == "" {
				require.NotContains(t, lines, "decides which")
			} else {
				require.Contains(t, lines, want)
			}
		}
	})
}

// A refused command that is no benchmark doesn't end with words about one.
func TestARefusedCommandIsNoBenchmark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		_, stop := start(t, agent.Config{Server: srv, Runner: &play{run: prints(1, 0)}})
		defer stop()
		id := srv.Queue(heartbeat.Command{Type: agent.TypeRunContainer, Payload: json.RawMessage(`{"image":"x"}`)})
		require.NoError(t, srv.WaitEnded(within(t, 10*time.Minute), id))
		lines := srv.Lines(id)
		require.Equal(t, "Command failed", lines[len(lines)-1])
		require.Contains(t, lines[0], "as good as root on this machine")
	})
}
