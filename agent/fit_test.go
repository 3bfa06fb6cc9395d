package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	settings "github.com/kirizan/kitt-agent/agent/profile"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/hwdetect/integrity/integritytest"
	"github.com/kirizan/kitt-agent/runner"
)

// sharedMachine is a machine whose GPU process 66 uses until a moment, and which cools
// down from 80 °C by 1 °C a second. Process 10 is the benchmark's.
type sharedMachine struct {
	integritytest.Fake
	begun time.Time
	until time.Duration
	pct   float64
	warm  bool
}

func (m *sharedMachine) State(ctx context.Context) (integrity.State, error) {
	s, err := m.Fake.State(ctx)
	s.GPUs = []hwdetect.GPUCounters{{Index: 0, UUID: "GPU-0", HWThermal: new(time.Duration)}}
	return s, err
}

func (m *sharedMachine) Sample(ctx context.Context) (integrity.Sample, error) {
	s, err := m.Fake.Sample(ctx)
	g := hwdetect.GPUTelemetry{Index: 0, UtilizationPct: new(99.0)}
	if m.warm {
		g.TemperatureC = new(max(80-time.Since(m.begun).Seconds(), 30))
	}
	s.GPUs = []hwdetect.GPUTelemetry{g}
	return s, err
}

func (m *sharedMachine) Processes(context.Context) ([]hwdetect.GPUProcess, error) {
	all := []hwdetect.GPUProcess{{PID: 10, Command: "kitt", SMPct: new(90.0)}}
	if time.Since(m.begun) < m.until {
		all = append(all, hwdetect.GPUProcess{PID: 66, Command: "train", Owner: "eve", SMPct: &m.pct})
	}
	return all, nil
}

// ownerOf10 is a runner whose runs are process 10.
type ownerOf10 struct{ *play }

func (ownerOf10) Owns(_ context.Context, jobs []runner.Job, pids []int) ([]int, error) {
	if len(jobs) == 0 || !slices.Contains(pids, 10) {
		return nil, nil
	}
	return []int{10}, nil
}

func TestBenchmarksWaitForGPUsThatOthersUse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		until   time.Duration
		pct     float64
		wait    time.Duration
		begins  time.Duration // after the launch
		says    string
		verdict string
	}{
		{"until it has ended", time.Minute, 90, 0, time.Minute, "Waiting to start: process 66 (train of eve) uses 90% of GPU 0", "Machine: valid"},
		{"until the limit", time.Hour, 90, 0, 2 * time.Minute, "Warning: starting after 2m0s all the same: process 66 (train of eve) uses 90% of GPU 0", "Machine: INVALID - process 66 (train of eve) used up to 90% of the SMs on GPU 0"},
		{"not at the owner's wish", time.Hour, 90, -1, 0, "", "Machine: INVALID - process 66 (train of eve) used up to 90% of the SMs on GPU 0"},
		{"not for one that does nothing", time.Hour, 0, 0, 0, "", "Machine: WARNING - process 66 (train of eve) held memory on GPU 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := &agenttest.Server{}
			var began time.Time
			run := prints(30, time.Second)
			p := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
				began = time.Now()
				return run(ctx, job, out)
			}}
			machine := &sharedMachine{begun: time.Now(), until: tt.until, pct: tt.pct}
			a, stop := start(t, agent.Config{Server: srv, Runner: ownerOf10{p}, Integrity: agent.Integrity{Source: machine, WaitIdle: tt.wait}})
			defer stop()
			id := srv.Launch("m")
			if tt.begins > 0 {
				<-time.After(30 * time.Second)
				require.Contains(t, a.Status().Jobs[0].WaitingFor, "process 66", tt.name)
			}
			require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
			<-time.After(time.Minute)
			require.InDelta(t, tt.begins.Seconds(), began.Sub(machine.begun).Seconds(), 4, tt.name)
			text := strings.Join(srv.Lines(id), "\n")
			require.Contains(t, text, tt.says)
			require.Equal(t, tt.verdict, a.Jobs()[0].Integrity.Text, tt.name)
		})
	}
}

func TestBenchmarksWaitForCoolGPUs(t *testing.T) {
	t.Parallel()
	for limit, want := range map[time.Duration]time.Duration{0: 40 * time.Second, 10 * time.Second: 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			srv := &agenttest.Server{}
			machine := &sharedMachine{begun: time.Now(), warm: true}
			a, stop := start(t, agent.Config{
				Server: srv, Runner: ownerOf10{&play{run: prints(1, 0)}}, Integrity: agent.Integrity{Source: machine, WaitCool: 40, WaitCoolLimit: limit},
			})
			defer stop()
			id := srv.Launch("m")
			require.NoError(t, srv.Wait(within(t, time.Hour), id, "completed"))
			<-time.After(time.Minute)
			require.InDelta(t, want.Seconds(), a.Jobs()[0].StartedAt.Sub(machine.begun).Seconds(), 4)
			require.Regexp(t, `Waiting to start: GPU 0 has \d\d °C, and is to have at most 40 °C`, strings.Join(srv.Lines(id), "\n"))
		})
	}
}

// A job that waits can be cancelled.
func TestAWaitForIdleGPUsCanBeCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		p := &play{run: prints(1, 0)}
		a, stop := start(t, agent.Config{Server: srv, Runner: ownerOf10{p}, Integrity: agent.Integrity{
			Source: &sharedMachine{begun: time.Now(), until: time.Hour, pct: 90}, WaitIdle: time.Hour,
		}})
		defer stop()
		srv.Launch("m")
		<-time.After(time.Minute)
		require.NoError(t, a.Cancel(t.Context(), a.Status().Jobs[0].CommandID, "user"))
		require.Equal(t, agent.StateCancelled, a.Jobs()[0].State)
		require.Empty(t, p.ran())
		require.Nil(t, a.Jobs()[0].Integrity)
	})
}

// A server that holds the engine's port would be measured in place of the model.
func TestAnEnginesPortThatAnotherProcessHolds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, check := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := &play{run: prints(1, 0)}
			srv := &profiled{Server: &agenttest.Server{}, profiles: map[string]settings.Profile{
				"p1": {ID: "p1", Engine: "vllm", Runtime: json.RawMessage(fmt.Sprintf(`{"port": %d}`, port))},
			}}
			a, stop := start(t, agent.Config{Server: srv, Runner: p, CheckEnginePort: check})
			defer stop()
			payload, err := json.Marshal(map[string]any{
				"model_path": "m", "engine_name": "vllm", "suite_name": "quick", "profile_id": "p1",
			})
			require.NoError(t, err)
			srv.Queue(heartbeat.Command{ID: "job", Type: agent.TypeRunTest, Payload: payload})
			<-time.After(time.Minute)
			job := a.Jobs()[0]
			if !check {
				require.Equal(t, agent.StateCompleted, job.State, job.Error)
				return
			}
			require.Equal(t, agent.StateFailed, job.State)
			require.Equal(t, "port", job.Class)
			require.Contains(t, job.Error, fmt.Sprintf("port %d, on which vllm is to listen, is held by process ", port))
			require.Contains(t, job.Fix, "stop_engine first")
			require.Empty(t, p.ran())
		})
	}
}

// A server that takes the engine's port after the start is found during the run.
func TestAnEnginesPortThatAnotherProcessTakes(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().(*net.TCPAddr)
	require.NoError(t, free.Close())
	synctest.Test(t, func(t *testing.T) {
		run := prints(30, time.Second)
		p := &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			l, err := net.Listen("tcp", address.String())
			if err != nil {
				return runner.Result{}, err
			}
			defer l.Close()
			return run(ctx, job, out)
		}}
		srv := &profiled{Server: &agenttest.Server{}, profiles: map[string]settings.Profile{
			"p1": {ID: "p1", Engine: "vllm", Runtime: json.RawMessage(fmt.Sprintf(`{"port": %d}`, address.Port))},
		}}
		a, stop := start(t, agent.Config{
			Server: srv, Runner: ownerOf10{p}, CheckEnginePort: true, Integrity: agent.Integrity{Source: &sharedMachine{begun: time.Now()}},
		})
		defer stop()
		payload, err := json.Marshal(map[string]any{
			"model_path": "m", "engine_name": "vllm", "suite_name": "quick", "profile_id": "p1",
		})
		require.NoError(t, err)
		srv.Queue(heartbeat.Command{ID: "job", Type: agent.TypeRunTest, Payload: payload})
		<-time.After(2 * time.Minute)
		job := a.Jobs()[0]
		require.Equal(t, agent.StateCompleted, job.State, job.Error)
		require.Contains(t, job.Integrity.Text, "Machine: INVALID - process ")
		require.Contains(t, job.Integrity.Text, fmt.Sprintf("answered on port %d, and not this benchmark's vllm", address.Port))
	})
}
