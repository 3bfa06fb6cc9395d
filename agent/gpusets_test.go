package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/storage"
	"github.com/kirizan/kitt-agent/storage/storagetest"
)

func eightGPUs(t *testing.T) *hwdetect.Machine {
	t.Helper()
	m, ok := hwdetect.Profile("h100-8")
	require.True(t, ok)
	return m
}

// submit gives a benchmark to a.
func submit(t *testing.T, a *agent.Agent, id string, exclusive bool) {
	t.Helper()
	_, err := a.Submit(agent.Benchmark{ID: id, Model: "m", Exclusive: exclusive})
	require.NoError(t, err)
}

func states(a *agent.Agent) map[string]agent.State {
	now := map[string]agent.State{}
	for _, j := range a.Jobs() {
		now[j.CommandID] = j.State
	}
	return now
}

// TestFourJobsOnEightGPUs runs four jobs on two GPUs each, and keeps a fifth waiting.
func TestFourJobsOnEightGPUs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := &runnertest.Fake{Hangs: true}
		m := eightGPUs(t)
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: run, Detector: hwdetecttest.NewFake(m), GPUSets: agent.GPUSets{PerJob: 2}})
		defer stop()
		time.Sleep(time.Minute)
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			submit(t, a, id, false)
			time.Sleep(time.Second)
		}
		held := map[string]string{}
		for _, j := range run.Jobs() {
			require.Len(t, j.GPUs, 2)
			require.Equal(t, 2, j.GPUFiles)
			require.True(t, j.GPUsOnly)
			require.NotEmpty(t, j.Host.CPUs)
			require.Equal(t, 0.25, j.Host.MemoryShare)
			for _, uuid := range j.GPUs {
				require.Empty(t, held[uuid])
				held[uuid] = j.ID
			}
		}
		require.Len(t, held, 8)
		s := a.Status()
		require.Empty(t, s.Warnings)
		require.Equal(t, 1, s.Waiting)
		require.Contains(t, s.Job("e").WaitingFor, "of 8 0 are free")

		// The first two are on one NUMA node, and say so.
		require.Len(t, s.Job("a").Neighbours, 3)
		require.Equal(t, "CPUs 0-55,112-167 and memory node 0", s.Job("a").Neighbours[0].Overlap)
		require.Equal(t, "b", s.Job("a").Neighbours[0].Job)
		require.Empty(t, s.Job("a").Neighbours[1].Overlap, "c is on the other node")
		require.Equal(t, "a", s.Job("d").Neighbours[0].Job)

		// GET /api/gpus shows the same.
		w := ask(t, a, "GET", "/api/gpus", "")
		var gpus agent.GPUs
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &gpus))
		require.Len(t, gpus.Devices, 8)
		require.Equal(t, gpus.Sets, s.GPUSets)
		require.Len(t, gpus.Sets, 4)
		for _, d := range gpus.Devices {
			require.Equal(t, []string{held[d.UUID]}, d.Holders)
			require.NotNil(t, d.Reading.TemperatureC)
		}

		freed := s.Job("b").GPUs
		require.NoError(t, a.Cancel(t.Context(), "b", "user"))
		time.Sleep(time.Minute)
		s = a.Status()
		require.Equal(t, agent.StateRunning, s.Job("e").State)
		require.Equal(t, freed, s.Job("e").GPUs)
		require.False(t, s.Job("a").Neighbours[0].To.IsZero(), "b has ended")
		require.True(t, s.Job("a").Neighbours[1].To.IsZero())
		require.False(t, s.Job("b").Neighbours[2].To.IsZero())
	})
}

// TestSetsSurviveARestart has an agent detached from four jobs of eight GPUs, and gives
// the next one no GPU that is held, though its own order would be another.
func TestSetsSurviveARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, run := t.TempDir(), &runnertest.FakeResumer{Fake: runnertest.Fake{Hangs: true}}
		cfg := agent.Config{
			Server: &agenttest.Server{}, Dir: dir, Runner: run,
			Detector: hwdetecttest.NewFake(eightGPUs(t)), GPUSets: agent.GPUSets{PerJob: 2},
		}
		before, stop := start(t, cfg)
		time.Sleep(time.Minute)
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			submit(t, before, id, false)
			time.Sleep(time.Second)
		}
		require.NoError(t, before.Cancel(t.Context(), "a", "user"))
		time.Sleep(time.Minute) // e has a's
		was := map[string][]string{}
		for _, j := range before.Status().Jobs {
			was[j.CommandID] = j.GPUs
		}
		require.Len(t, was, 4)
		stop()

		after, stop := start(t, cfg)
		defer stop()
		time.Sleep(time.Second)
		submit(t, after, "f", false)
		time.Sleep(time.Minute)
		for id, gpus := range was {
			require.Equal(t, gpus, after.Status().Job(id).GPUs)
		}
		require.Equal(t, agent.StateAccepted, after.Status().Job("f").State)
		require.NoError(t, after.Cancel(t.Context(), "c", "user"))
		time.Sleep(time.Minute)
		require.Equal(t, was["c"], after.Status().Job("f").GPUs)
	})
}

// TestGPUThatFallsOffTheBusWhileHeld leaves the job its set, and gives the set to no other
// job until the GPU is back.
func TestGPUThatFallsOffTheBusWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := eightGPUs(t)
		detector := hwdetecttest.NewFake(m)
		a, stop := start(t, agent.Config{
			Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: detector,
			GPUSets: agent.GPUSets{Sets: [][]string{{"0", "1", "2", "3"}, {"4", "5", "6", "7"}}},
		})
		defer stop()
		time.Sleep(time.Minute)
		submit(t, a, "a", false)
		submit(t, a, "b", false)
		time.Sleep(time.Second)
		submit(t, a, "c", false)
		lost := *m
		lost.GPUs = slices.Clone(m.GPUs)
		lost.GPUs[2].Fault = "the GPU has fallen off the bus; restart the machine"
		detector.SetMachine(&lost, nil)
		detector.SetFault("GPU 2 has fallen off the bus")
		time.Sleep(time.Minute)
		require.NoError(t, a.Cancel(t.Context(), "a", "user"))
		time.Sleep(time.Minute)
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "No job gets the GPUs 0, 1, 2, 3: GPU 2: the GPU has fallen off the bus")
		require.Contains(t, a.Status().Job("c").WaitingFor, "set 1 can't be used: GPU 2: the GPU has fallen off the bus")

		detector.SetMachine(m, nil)
		detector.SetFault("")
		time.Sleep(time.Minute)
		require.Equal(t, agent.StateRunning, a.Status().Job("c").State)
		require.Equal(t, m.GPUs[2].UUID, a.Status().Job("c").GPUs[2])
	})
}

// TestExclusiveJobWaitsForTheMachine runs a job apart from the others, before those that
// came after it.
func TestExclusiveJobWaitsForTheMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{
			Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: hwdetecttest.NewFake(eightGPUs(t)), GPUSets: agent.GPUSets{PerJob: 1},
		})
		defer stop()
		time.Sleep(time.Minute)
		submit(t, a, "a", false)
		time.Sleep(time.Second)
		submit(t, a, "alone", true)
		submit(t, a, "b", false)
		time.Sleep(time.Second)
		require.Equal(t, map[string]agent.State{"a": "running", "alone": "accepted", "b": "accepted"}, states(a))
		require.Contains(t, a.Status().Job("alone").WaitingFor, "exclusive")
		require.NoError(t, a.Cancel(t.Context(), "a", "user"))
		time.Sleep(time.Minute)
		require.Equal(t, map[string]agent.State{"a": "cancelled", "alone": "running", "b": "accepted"}, states(a))
		require.Empty(t, a.Status().Job("alone").Neighbours)
		require.Contains(t, a.Status().Job("b").WaitingFor, "job alone runs apart from others")
		require.NoError(t, a.Cancel(t.Context(), "alone", "user"))
		time.Sleep(time.Minute)
		require.Equal(t, agent.StateRunning, states(a)["b"])
	})
}

// TestExclusiveIsAKeyOfThePayload takes true and nothing else.
func TestExclusiveIsAKeyOfThePayload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		a, stop := start(t, agent.Config{Server: srv, Runner: &play{run: hangs}, MaxConcurrentJobs: 2})
		defer stop()
		time.Sleep(time.Minute)
		for id, value := range map[string]string{"a": "true", "b": `"no"`} {
			w := ask(t, a, "POST", "/api/commands", fmt.Sprintf(`{"command_id":%q,"type":"run_test","payload":{"model_path":"m","exclusive":%s}}`, id, value))
			require.Equal(t, 202, w.Code, w.Body)
		}
		time.Sleep(time.Second)
		require.Equal(t, 1, a.Status().Waiting)
	})
}

// TestSharedGPUsAreWarnedOf has two jobs at once without sets, as before.
func TestSharedGPUsAreWarnedOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := &runnertest.Fake{Hangs: true}
		a, stop := start(t, agent.Config{Server: &agenttest.Server{}, Runner: run, Detector: hwdetecttest.NewFake(eightGPUs(t)), MaxConcurrentJobs: 2})
		defer stop()
		time.Sleep(time.Minute)
		submit(t, a, "a", false)
		submit(t, a, "b", false)
		time.Sleep(time.Second)
		require.Len(t, run.Jobs(), 2)
		for _, j := range run.Jobs() {
			require.Equal(t, []string{runner.AllGPUs}, j.GPUs)
			require.Equal(t, 8, j.GPUFiles)
			require.False(t, j.GPUsOnly)
			require.Zero(t, j.Host)
		}
		require.Contains(t, strings.Join(a.Status().Warnings, "\n"), "Up to 2 benchmarks run at once on the same GPUs")
		require.Equal(t, "the same GPUs", a.Status().Job("a").Neighbours[0].Overlap)
	})
}

// TestJobsOfOneEngineWaitForItsPort runs two engines at once, and two jobs of one engine
// one after the other: they would have one port.
func TestJobsOfOneEngineWaitForItsPort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := start(t, agent.Config{
			Server: &agenttest.Server{}, Runner: &play{run: hangs}, Detector: hwdetecttest.NewFake(eightGPUs(t)), GPUSets: agent.GPUSets{PerJob: 2}, CheckEnginePort: true,
		})
		defer stop()
		time.Sleep(time.Minute)
		for id, engine := range map[string]string{"a": "exllamav2", "b": "vllm"} {
			_, err := a.Submit(agent.Benchmark{ID: id, Model: "m", Engine: engine})
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		_, err := a.Submit(agent.Benchmark{ID: "c", Model: "m", Engine: "vllm"})
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, map[string]agent.State{"a": "running", "b": "running", "c": "accepted"}, states(a))
		require.Contains(t, a.Status().Job("c").WaitingFor, "policy.container.network: job")
	})
}

// TestSetsAreChecked refuses sets that make no sense.
func TestSetsAreChecked(t *testing.T) {
	t.Parallel()
	base := agent.Config{Name: "a", Dir: t.TempDir(), Server: &agenttest.Server{}, Runner: &runnertest.Fake{}}
	base.GPUSets = agent.GPUSets{PerJob: -1}
	_, err := agent.New(base)
	require.ErrorContains(t, err, "a job gets -1 GPUs")
	base.GPUSets, base.GPUs = agent.GPUSets{PerJob: 1}, agent.GPUNone
	_, err = agent.New(base)
	require.ErrorContains(t, err, "GPUs is none")
}

// slowStorage copies for ever.
type slowStorage struct{ storage.Storage }

func (slowStorage) Acquire(ctx context.Context, _ storage.Request) (*storage.Lease, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestKillBetweenAllocationAndStart kills an agent whose jobs hold sets and have started
// nothing: what is on its disk at that moment is all that the next one has.
func TestKillBetweenAllocationAndStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, left := t.TempDir(), t.TempDir()
		m := eightGPUs(t)
		cfg := agent.Config{
			Server: &agenttest.Server{}, Dir: dir, Runner: &play{run: hangs}, Storage: slowStorage{&storagetest.Fake{}},
			Detector: hwdetecttest.NewFake(m), GPUSets: agent.GPUSets{PerJob: 2},
		}
		before, stop := start(t, cfg)
		time.Sleep(time.Minute)
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			submit(t, before, id, false)
			time.Sleep(time.Second)
		}
		was := map[string][]string{}
		for _, j := range before.Jobs() {
			was[j.CommandID] = j.GPUs
		}
		require.Equal(t, map[string]agent.State{"a": "preparing", "b": "preparing", "c": "preparing", "d": "preparing", "e": "accepted"}, states(before))
		require.NoError(t, os.CopyFS(left, os.DirFS(dir)))
		stop()

		run := &runnertest.Fake{Hangs: true}
		// The sets of this one are others: what the jobs hold counts.
		cfg.Server = &agenttest.Server{} // to this one, the other agent would be a second one of its name
		cfg.Dir, cfg.Runner, cfg.Storage, cfg.GPUSets = left, run, nil, agent.GPUSets{Sets: [][]string{{"0", "7"}, {"1", "6"}}}
		_, stop = start(t, cfg)
		defer stop()
		time.Sleep(time.Minute)
		require.Len(t, run.Jobs(), 4, "each once, and e waits")
		for _, j := range run.Jobs() {
			require.Equal(t, was[j.ID], j.GPUs)
		}
	})
}
