package metrics_test

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/metrics"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/runnertest"
	"github.com/kirizan/kitt-agent/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// samples returns the samples that a handler serves, by name and labels as the text
// format has them.
func samples(t *testing.T, h http.Handler) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/metrics", nil))
	require.Equal(t, 200, w.Code)
	found := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			v, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err, line)
			found[name+"}"] = v
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			v, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err, line)
			found[name] = v
		}
	}
	return found
}

// TestAgent follows an agent from its start to the end of three jobs.
func TestAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := &agenttest.Server{}
		run := &runnertest.Fake{Lines: []string{"one", "two"}, Delay: 15 * time.Second}
		m := metrics.New()
		detector := &hwdetecttest.Fake{}
		joules := 5.0
		detector.SetCounters(hwdetect.Counters{Time: time.Now().Add(time.Hour), GPUs: []hwdetect.GPUCounters{{EnergyJ: &joules}}}, nil)
		a, err := agent.New(agent.Config{
			Name: "gpu-01", Version: "1.2.3", Dir: t.TempDir(), Server: srv, Runner: run, Metrics: m.Handler(),
			Detector: detector,
		})
		require.NoError(t, err)
		require.Empty(t, ours(samples(t, a.Handler())), "there is nothing to say before Follow")
		ctx, stop := context.WithCancel(t.Context())
		events := a.Events(ctx)
		var running sync.WaitGroup
		running.Go(func() { m.Follow(a, events) })
		running.Go(func() { _ = a.Run(ctx) })

		first := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(ctx, first))
		time.Sleep(time.Minute)
		run.Err = &runner.Error{Class: "oom", Text: "no memory"}
		second := srv.Launch("m")
		require.NoError(t, srv.WaitEnded(ctx, second))
		time.Sleep(time.Minute)

		got := samples(t, a.Handler())
		want := map[string]float64{
			`kitt_agent_jobs_ended_total{outcome="completed"}`:                    1,
			`kitt_agent_jobs_ended_total{outcome="failed"}`:                       1,
			`kitt_agent_jobs_ended_total{outcome="cancelled"}`:                    0,
			`kitt_agent_jobs_failed_total{class="oom"}`:                           1,
			`kitt_agent_job_duration_seconds_count{outcome="completed"}`:          1,
			`kitt_agent_job_duration_seconds_bucket{outcome="completed",le="60"}`: 1,
			`kitt_agent_job_queue_seconds_count`:                                  2,
			`kitt_agent_gpu_energy_joules_total{gpu="0"}`:                         5,
			`kitt_agent_jobs{state="running"}`:                                    0,
			`kitt_agent_jobs{state="accepted"}`:                                   0,
			`kitt_agent_ready`:                                                    1,
			`kitt_agent_server_registered`:                                        1,
			`kitt_agent_undelivered_jobs`:                                         0,
			`kitt_agent_heartbeats_total{result="failed"}`:                        0,
			`kitt_agent_heartbeat_interval_seconds`:                               30,
		}
		for name, v := range want {
			require.Contains(t, got, name)
			require.InDelta(t, v, got[name], 0, name)
		}
		lines := 0
		for _, j := range a.Jobs() {
			lines += int(j.LogLines)
		}
		require.InDelta(t, lines, got["kitt_agent_log_lines_total"], 0)
		require.Greater(t, got[`kitt_agent_heartbeats_total{result="accepted"}`], 3.0)
		require.InDelta(t, a.Status().Server.LastBeat.Unix(), got["kitt_agent_server_last_contact_timestamp_seconds"], 1)
		stop()
		running.Wait()
	})
}

// ours returns the names of an agent's own metrics among samples.
func ours(all map[string]float64) (names []string) {
	for name := range all {
		if strings.HasPrefix(name, "kitt_agent_") {
			names = append(names, name)
		}
	}
	return names
}

// fake is an agent whose status and jobs are set.
type fake struct {
	mu     sync.Mutex
	status agent.Status
	jobs   map[string]agent.JobStatus

	machine  *hwdetect.Machine
	counters hwdetect.Counters
}

func (f *fake) Machine() *hwdetect.Machine { return f.machine }

func (f *fake) GPUCounters() hwdetect.Counters { return f.counters }

func (f *fake) Status() agent.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fake) Job(id string) (agent.JobStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j, ok := f.jobs[id]; ok {
		return j, nil
	}
	return agent.JobStatus{}, agent.ErrNoJob
}

func happened(events ...agent.Event) iter.Seq[agent.Event] { return slices.Values(events) }

// full is a status in which everything has a value.
func full() agent.Status {
	now := time.Now()
	pct, used, temp, watts, clock, xid, ecc := 50.0, int64(2<<30), 61.5, 240.25, 1410, int64(79), int64(2)
	return agent.Status{
		Version: "1.2.3", StartedAt: now.Add(-time.Hour), Undelivered: 1, UndeliveredSince: now.Add(-time.Minute), UndeliveredBytes: 4096,
		Storage: agent.StorageStatus{UsedGB: 1, FreeGB: 2.5, ModelCount: 3},
		Server:  agent.ServerStatus{Registered: true, LastBeat: now, IntervalS: 30, BeatsAccepted: 5, BeatsRefused: 1, BeatsFailed: 2},
		Jobs: []agent.JobStatus{
			{CommandID: "a", State: agent.StateRunning, AcceptedAt: now, StartedAt: now, LogLines: 7, LogRefused: 2},
			{CommandID: "b", State: agent.StatePreparing, WaitingFor: "the engine"},
		},
		Telemetry: hwdetect.Telemetry{Time: now, GPUs: []hwdetect.GPUTelemetry{{
			UtilizationPct: &pct, MemoryUsedBytes: &used, TemperatureC: &temp, MemoryTemperatureC: &temp, PowerW: &watts,
			SMClockMHz: &clock, MemoryClockMHz: &clock, LastXID: &xid, ECCUncorrected: &ecc, ThrottleReasons: []string{"sw_power_cap"},
		}, {Index: 1}}},
	}
}

// followed returns metrics of f that have counted events.
func followed(f *fake, events ...agent.Event) *metrics.Metrics {
	m := metrics.New()
	m.Follow(f, happened(events...))
	return m
}

// everything returns metrics each of which has a sample.
func everything() *metrics.Metrics {
	f := &fake{status: full(), jobs: map[string]agent.JobStatus{
		"z": {CommandID: "z", Type: agent.TypeRunTest, State: agent.StateFailed, Class: "oom", AcceptedAt: time.Now(), StartedAt: time.Now(), EndedAt: time.Now(), LogLines: 3,
			Integrity: &agent.JobIntegrity{Verdict: "invalid"}},
	}}
	joules, watts, n, hot := 1234.5, 300.0, int64(3), 90*time.Second
	f.machine = &hwdetect.Machine{GPUs: []hwdetect.GPU{{Model: "NVIDIA H100", UUID: "GPU-1", MemoryBytes: 80 << 30}}}
	f.counters = hwdetect.Counters{Time: time.Now(), GPUs: []hwdetect.GPUCounters{{
		EnergyJ: &joules, PowerLimitW: &watts, HWThermal: &hot, ECCCorrected: &n, PCIeReplays: &n, NVLinkErrors: &n,
	}}}
	return followed(f,
		agent.Event{Kind: agent.EventCopy, JobID: "z", Copy: &storage.Progress{BytesDone: 10}},
		agent.Event{Kind: agent.EventState, JobID: "z", State: agent.StateRunning},
		agent.Event{Kind: agent.EventEnded, JobID: "z", State: agent.StateFailed})
}

func TestReadings(t *testing.T) {
	t.Parallel()
	got := samples(t, everything().Handler())
	for name, v := range map[string]float64{
		`kitt_agent_gpu_utilization_ratio{gpu="0"}`:                           0.5,
		`kitt_agent_gpu_memory_used_bytes{gpu="0"}`:                           2 << 30,
		`kitt_agent_gpu_power_watts{gpu="0"}`:                                 240.25,
		`kitt_agent_gpu_sm_clock_hertz{gpu="0"}`:                              1.41e9,
		`kitt_agent_gpu_throttled{gpu="0",reason="sw_power_cap"}`:             1,
		`kitt_agent_gpu_throttled{gpu="0",reason="hw_thermal_slowdown"}`:      0,
		`kitt_agent_gpu_xid_errors_total{gpu="0",xid="79"}`:                   1,
		`kitt_agent_gpu_ecc_uncorrected_errors_total{gpu="0"}`:                2,
		`kitt_agent_gpu_energy_joules_total{gpu="0"}`:                         1234.5,
		`kitt_agent_gpu_throttled_seconds_total{gpu="0",reason="hw_thermal"}`: 90,
		`kitt_agent_gpu_power_limit_watts{gpu="0"}`:                           300,
		`kitt_agent_gpu_ecc_corrected_errors_total{gpu="0"}`:                  3,
		`kitt_agent_gpu_pcie_replays_total{gpu="0"}`:                          3,
		`kitt_agent_gpu_nvlink_errors_total{gpu="0"}`:                         3,
		`kitt_agent_gpu_memory_bytes{gpu="0"}`:                                80 << 30,
		`kitt_agent_gpu_info{gpu="0",name="NVIDIA H100",uuid="GPU-1"}`:        1,
		`kitt_agent_store_disk_free_bytes`:                                    2.5 * (1 << 30),
		`kitt_agent_store_copied_bytes_total`:                                 10,
		`kitt_agent_store_copies_total{result="completed"}`:                   1,
		`kitt_agent_jobs{state="running"}`:                                    1,
		`kitt_agent_runs_judged_total{verdict="invalid"}`:                     1,
		`kitt_agent_runs_judged_total{verdict="valid"}`:                       0,
		`kitt_agent_jobs_blocked`:                                             1,
		`kitt_agent_log_lines_total`:                                          10,
		`kitt_agent_log_lines_missing_total`:                                  2,
		`kitt_agent_undelivered_bytes`:                                        4096,
		`kitt_agent_heartbeats_total{result="refused"}`:                       1,
	} {
		require.Contains(t, got, name)
		require.InDelta(t, v, got[name], 0, name)
	}
	require.NotContains(t, got, `kitt_agent_gpu_throttled_seconds_total{gpu="0",reason="sw_thermal"}`)
	require.NotContains(t, got, `kitt_agent_gpu_power_watts{gpu="1"}`, "what could not be read has no sample")
}

// An old reading is of a GPU that no longer answers.
func TestOldReadings(t *testing.T) {
	t.Parallel()
	f := &fake{status: full()}
	f.status.Telemetry.Time = time.Now().Add(-3 * time.Minute)
	got := samples(t, followed(f).Handler())
	require.NotContains(t, got, `kitt_agent_gpu_power_watts{gpu="0"}`)
	require.Contains(t, got, "kitt_agent_gpu_telemetry_timestamp_seconds")
}

// Counters never go back, whatever comes between two scrapes.
func TestCountersOnlyGrow(t *testing.T) {
	t.Parallel()
	f := &fake{status: full(), jobs: map[string]agent.JobStatus{}}
	f.jobs["a"] = agent.JobStatus{CommandID: "a", State: agent.StateCompleted, LogLines: 9}
	m := metrics.New()
	h := m.Handler()
	events := make(chan agent.Event)
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		m.Follow(f, func(yield func(agent.Event) bool) {
			for e := range events {
				if !yield(e) {
					return
				}
			}
		})
	}()
	events <- agent.Event{Kind: agent.EventAccepted, JobID: "a"}
	require.InDelta(t, 7, samples(t, h)["kitt_agent_log_lines_total"], 0)
	// The status of the next scrape was taken before the end, which is counted first.
	events <- agent.Event{Kind: agent.EventEnded, JobID: "a"}
	close(events)
	<-counted
	for range 2 {
		require.InDelta(t, 9, samples(t, h)["kitt_agent_log_lines_total"], 0)
	}
	f.mu.Lock()
	f.status.Jobs = nil
	f.mu.Unlock()
	require.InDelta(t, 9, samples(t, h)["kitt_agent_log_lines_total"], 0)
	require.InDelta(t, 1, samples(t, h)[`kitt_agent_gpu_xid_errors_total{gpu="0",xid="79"}`], 0, "one XID is one, however often it is read")
}

// What an agent before this one has counted is not counted again.
func TestResumedJob(t *testing.T) {
	t.Parallel()
	f := &fake{status: full()}
	f.status.Jobs[0].StartedAt = f.status.StartedAt.Add(-time.Minute)
	h := followed(f).Handler()
	require.InDelta(t, 0, samples(t, h)["kitt_agent_log_lines_total"], 0)
	f.status.Jobs[0].LogLines = 12
	require.InDelta(t, 5, samples(t, h)["kitt_agent_log_lines_total"], 0)
}

// Only benchmarks have durations: an engine's start would hide theirs.
func TestDurationsAreThoseOfBenchmarks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	f := &fake{jobs: map[string]agent.JobStatus{}}
	var events []agent.Event
	for _, kind := range []string{agent.TypeRunTest, agent.TypeStartEngine, agent.TypeCleanupStorage} {
		f.jobs[kind] = agent.JobStatus{CommandID: kind, Type: kind, State: agent.StateCompleted, AcceptedAt: now, StartedAt: now, EndedAt: now.Add(time.Minute)}
		events = append(events, agent.Event{Kind: agent.EventState, JobID: kind, State: agent.StateRunning}, agent.Event{Kind: agent.EventEnded, JobID: kind})
	}
	got := samples(t, followed(f, events...).Handler())
	require.InDelta(t, 1, got[`kitt_agent_job_duration_seconds_count{outcome="completed"}`], 0)
	require.InDelta(t, 1, got["kitt_agent_job_queue_seconds_count"], 0)
	require.InDelta(t, 3, got[`kitt_agent_jobs_ended_total{outcome="completed"}`], 0)
}

func TestClassesAreBounded(t *testing.T) {
	t.Parallel()
	f := &fake{jobs: map[string]agent.JobStatus{}}
	var events []agent.Event
	for i := range 100 {
		id := strconv.Itoa(i)
		f.jobs[id] = agent.JobStatus{CommandID: id, State: agent.StateFailed, Class: "class-" + id}
		events = append(events, agent.Event{Kind: agent.EventEnded, JobID: id})
	}
	classes := 0
	for _, name := range ours(samples(t, followed(f, events...).Handler())) {
		if strings.HasPrefix(name, "kitt_agent_jobs_failed_total") {
			classes++
		}
	}
	require.Equal(t, 33, classes)
}

// Durations are native histograms, and have buckets too.
func TestHistogramsAreNative(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(everything()))
	families, err := registry.Gather()
	require.NoError(t, err)
	found := 0
	for _, family := range families {
		if family.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		for _, metric := range family.Metric {
			found++
			require.NotNil(t, metric.Histogram.Schema, family.GetName())
			require.NotEmpty(t, metric.Histogram.Bucket, family.GetName())
		}
	}
	require.Equal(t, 2, found)
}

// The names, help texts and units are those that Prometheus recommends.
func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := testutil.CollectAndLint(everything())
	require.NoError(t, err)
	require.Empty(t, problems)

	promtool, err := exec.LookPath("promtool")
	if err != nil {
		require.Empty(t, os.Getenv("KITT_TEST_PROMETHEUS"), "promtool: %v", err)
		t.Skip("no promtool: apt-get install prometheus")
	}
	w := httptest.NewRecorder()
	everything().Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?(go|process|promhttp)_.*\n`).ReplaceAllString(w.Body.String(), ""))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

// A scrape does not tell the names of jobs, models and machines.
func TestNoNames(t *testing.T) {
	t.Parallel()
	f := &fake{status: full()}
	f.status.Name = "hidden-machine"
	f.status.Jobs[0].Model, f.status.Jobs[0].CommandID, f.status.Jobs[0].TestID = "hidden-model", "hidden-job", "hidden-test"
	f.status.Server.LastError, f.status.Server.AgentID = "hidden-error", "hidden-id"
	w := httptest.NewRecorder()
	followed(f).Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	require.NotContains(t, w.Body.String(), "hidden")
}

// TestOpenRoute holds that everybody may scrape, and that there is nothing to scrape
// unless the program asks for it.
func TestOpenRoute(t *testing.T) {
	t.Parallel()
	get := func(cfg agent.Config) int {
		cfg.Name, cfg.Dir, cfg.Server, cfg.Runner, cfg.Token = "x", t.TempDir(), &agenttest.Server{}, &runnertest.Fake{}, "a-token-0123456789"
		a, err := agent.New(cfg)
		require.NoError(t, err)
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://gpu-01:8090/metrics", nil)
		r.RemoteAddr = "10.0.0.9:5"
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, 404, get(agent.Config{}))
	require.Equal(t, 200, get(agent.Config{Metrics: metrics.New().Handler()}))
}

// Refusals and outages are told apart.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		fault := errors.New("connection refused")
		srv := &agenttest.Server{Fault: func(string) error {
			mu.Lock()
			defer mu.Unlock()
			return fault
		}}
		m := metrics.New()
		a, err := agent.New(agent.Config{Name: "x", Dir: t.TempDir(), Server: srv, Runner: &runnertest.Fake{}, Metrics: m.Handler()})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		events := a.Events(ctx)
		var running sync.WaitGroup
		running.Go(func() { m.Follow(a, events) })
		running.Go(func() { _ = a.Run(ctx) })
		time.Sleep(time.Minute)
		got := samples(t, a.Handler())
		require.Greater(t, got[`kitt_agent_heartbeats_total{result="failed"}`], 1.0)
		require.NotContains(t, got, "kitt_agent_server_last_contact_timestamp_seconds")
		require.InDelta(t, 0, got["kitt_agent_ready"], 0)
		mu.Lock()
		fault = &reporter.RejectedError{Code: 403, Message: "no"}
		mu.Unlock()
		time.Sleep(3 * time.Minute)
		require.Greater(t, samples(t, a.Handler())[`kitt_agent_heartbeats_total{result="refused"}`], 1.0)
		stop()
		running.Wait()
	})
}
