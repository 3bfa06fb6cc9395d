package metrics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/metrics"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/hwdetecttest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// TestPrometheus has a real Prometheus scrape ten agents that run jobs, and compares what
// it stored with what the agents did. KITT_TEST_PROMETHEUS_FOR is how long they do so.
func TestPrometheus(t *testing.T) {
	if os.Getenv("KITT_TEST_PROMETHEUS") == "" {
		t.Skip("KITT_TEST_PROMETHEUS=1 starts a Prometheus")
	}
	duration := 20 * time.Second
	if text := os.Getenv("KITT_TEST_PROMETHEUS_FOR"); text != "" {
		var err error
		duration, err = time.ParseDuration(text)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration+5*time.Minute)
	defer cancel()
	var agents []*loaded
	var targets []string
	for i := range 10 {
		l := startLoaded(ctx, t, i)
		agents = append(agents, l)
		targets = append(targets, l.address)
	}
	p := startPrometheus(ctx, t, targets)

	var load sync.WaitGroup
	until := time.Now().Add(duration)
	for _, l := range agents {
		load.Go(func() {
			<-l.agent.Ready()
			for time.Now().Before(until) && ctx.Err() == nil {
				id, err := l.agent.Submit(agent.Benchmark{Model: "model", Engine: "vllm"})
				if err == nil {
					_, err = l.agent.Wait(ctx, id)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	load.Wait()
	done, failed := 0, 0
	lines := int64(0)
	for _, l := range agents {
		for _, j := range l.agent.Jobs() {
			done++
			lines += j.LogLines
			if j.State == agent.StateFailed {
				failed++
			}
		}
	}
	require.Positive(t, failed)
	p.await("sum(kitt_agent_jobs_ended_total)", float64(done))
	p.await(`sum(kitt_agent_jobs_ended_total{outcome="failed"})`, float64(failed))
	p.await(`sum(kitt_agent_jobs_failed_total)`, float64(failed))
	p.await("sum(kitt_agent_log_lines_total)", float64(lines))
	p.await("sum(kitt_agent_job_duration_seconds_count) or histogram_count(sum(kitt_agent_job_duration_seconds))", float64(done))
	p.await("histogram_count(sum(kitt_agent_job_queue_seconds))", float64(done))
	p.await("count(up == 1)", 10)
	p.await("count(kitt_agent_ready == 1)", 10)
	p.await("count(kitt_agent_gpu_power_watts)", 80)
	p.await(`count(ALERTS{alertstate="firing",alertname!="KITTAgentJobsFail"}) or vector(0)`, 0)
	p.await("sum(resets(kitt_agent_log_lines_total[1h]) + resets(kitt_agent_store_copied_bytes_total[1h]))", 0)
	t.Logf("%d jobs (%d failed), %d lines; slowest scrape %.1f ms, largest %.0f samples", done, failed, lines,
		1000*p.query("max(max_over_time(scrape_duration_seconds[1h]))"), p.query("max(scrape_samples_scraped)"))

	agents[0].stop()
	p.await("count(up == 0)", 1)
	p.await(`count(ALERTS{alertname="KITTAgentDown",alertstate="pending"})`, 1)
	for _, l := range agents[1:] {
		l.stop()
	}
}

// A loaded agent serves its API, and runs the jobs of a server of its own.
type loaded struct {
	agent   *agent.Agent
	server  *agenttest.Server
	address string
	stop    func()
}

// startLoaded starts an agent on a made-up machine. Every third one has jobs that fail.
func startLoaded(ctx context.Context, t *testing.T, i int) *loaded {
	t.Helper()
	machine, ok := hwdetect.Profile("h100-8")
	require.True(t, ok)
	gpus := hwdetecttest.NewFake(machine)
	reading := hwdetect.Telemetry{Time: time.Now().Add(12 * time.Hour)} // it stays recent
	for gpu := range machine.GPUs {
		watts, pct := 300.0, 90.0
		reading.GPUs = append(reading.GPUs, hwdetect.GPUTelemetry{Index: gpu, PowerW: &watts, UtilizationPct: &pct})
	}
	gpus.SetTelemetry(reading, nil)
	run := &runnertest.Fake{Lines: strings.Split(strings.Repeat("token ", 49)+"token", " "), Delay: time.Millisecond}
	if i%3 == 0 {
		run.Err = fmt.Errorf("agent %d fails", i)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := metrics.New()
	l := &loaded{server: &agenttest.Server{}, address: listener.Addr().String()}
	l.agent, err = agent.New(agent.Config{
		Name: "gpu-" + strconv.Itoa(i), Version: "1.2.3", Dir: t.TempDir(), Server: l.server, Runner: run, Detector: gpus,
		Listener: listener, Metrics: m.Handler(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(ctx)
	events := l.agent.Events(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.Follow(l.agent, events) })
	running.Go(func() { _ = l.agent.Run(ctx) })
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

// realPrometheus is a running Prometheus.
type realPrometheus struct {
	t   *testing.T
	ctx context.Context
	url string
}

// startPrometheus starts one that scrapes targets every second, with the alerts.
func startPrometheus(ctx context.Context, t *testing.T, targets []string) *realPrometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	require.NoError(t, err)
	dir := t.TempDir()
	alerts, err := filepath.Abs(filepath.Join(monitoring, "alerts.yml"))
	require.NoError(t, err)
	list, err := json.Marshal(targets)
	require.NoError(t, err)
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n- job_name: kitt-agent\n  static_configs: [{targets: %s}]\n", alerts, list)
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	cmd := exec.CommandContext(ctx, path, "--config.file="+file, "--storage.tsdb.path="+dir, "--web.listen-address="+address,
		"--enable-feature=native-histograms", "--log.level=warn")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	p := &realPrometheus{t: t, ctx: ctx, url: "http://" + address}
	p.await("count(up)", float64(len(targets)))
	return p
}

// await returns once expr has the value.
func (p *realPrometheus) await(expr string, want float64) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.query(expr) == want }, time.Minute, 250*time.Millisecond, "%s is %v, not %v", expr, p.query(expr), want)
}

// query returns the value of expr, -1 if there is none.
func (p *realPrometheus) query(expr string) float64 {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return -1 // it starts
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil || len(answer.Data.Result) == 0 {
		return -1
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	require.NoError(p.t, err)
	return v
}
