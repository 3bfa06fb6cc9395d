package kittapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/hwdetect"
)

// newServer starts a double.
func newServer(t testing.TB, cfg kittapitest.Config) *kittapitest.Server {
	s, err := kittapitest.NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func newClient(t testing.TB, cfg kittapi.Config) *kittapi.Client {
	c, err := kittapi.New(cfg)
	require.NoError(t, err)
	return c
}

var h100 = &hwdetect.Machine{
	Hostname: "gpu-01", EnvironmentType: "dgx", OS: "Linux-5.15.0-1042-nvidia", Kernel: "#42-Ubuntu SMP",
	GPUs: []hwdetect.GPU{
		{Model: "NVIDIA H100 80GB HBM3", MemoryBytes: 80 << 30, ComputeCapability: "9.0"},
		{Index: 1, Model: "NVIDIA H100 80GB HBM3", MemoryBytes: 80 << 30, ComputeCapability: "9.0"},
	},
	DriverVersion: "550.54.15", CUDAVersion: "12.4",
	CPU:         hwdetect.CPU{Model: "Intel(R) Xeon(R) Platinum 8480C", Arch: "amd64", Cores: 112, Threads: 224},
	MemoryBytes: 2048<<30 - 1<<20, MemoryType: "DDR5",
	Storage: hwdetect.Storage{Brand: "Samsung", Model: "SAMSUNG MZQL23T8HCLS-00A07", Type: "nvme"},
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL + "/", Token: "secret"})
	got, err := c.Register(t.Context(), agent.Registration{Name: "gpu 01", Port: 8090, Version: "1.2.3", Capabilities: []string{"vllm"}, Machine: h100})
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, got.Interval)
	a, ok := s.Agent("gpu 01")
	require.True(t, ok)
	require.Equal(t, a.ID, got.AgentID)
	details := a.Fields["hardware_details"].(string)
	delete(a.Fields, "hardware_details")
	const fingerprint = "NVIDIA-H100-80GB-HBM3-80GB-2x_Intel(R)-8480C-224c_2048GB-DDR5_Samsung-SAMSUNG-MZQL23T8HCLS-00A07-NVME_CUDA-12.4_550.54.15_Linux-5.15.0-1042-nvidia"
	require.Equal(t, map[string]any{
		"name": "gpu 01", "hostname": "gpu-01", "port": 8090.0, "gpu_info": "NVIDIA H100 80GB HBM3 80GB", "gpu_count": 2.0,
		"cpu_info": "Intel(R) Xeon(R) Platinum 8480C", "cpu_arch": "amd64", "ram_gb": 2048.0, "environment_type": "dgx",
		"fingerprint": fingerprint, "kitt_version": "1.2.3", "capabilities": []any{"vllm"},
	}, a.Fields)
	require.JSONEq(t, `{"gpu_model": "NVIDIA H100 80GB HBM3", "gpu_vram_gb": 80, "gpu_count": 2, "gpu_compute_capability": "9.0",
		"cpu_model": "Intel(R) Xeon(R) Platinum 8480C", "cpu_arch": "amd64", "cpu_cores": 224, "cpu_threads": 224, "ram_gb": 2048,
		"ram_type": "DDR5", "storage_brand": "Samsung", "storage_model": "SAMSUNG MZQL23T8HCLS-00A07", "storage_type": "nvme",
		"cuda_version": "12.4", "driver_version": "550.54.15", "os": "Linux-5.15.0-1042-nvidia", "kernel": "#42-Ubuntu SMP",
		"environment_type": "dgx", "fingerprint": "`+fingerprint+`"}`, details)

	again, err := c.Register(t.Context(), agent.Registration{Name: "gpu 01"})
	require.NoError(t, err, "unknown fields are omitted or empty, never null")
	require.Equal(t, got.AgentID, again.AgentID)
	require.Equal(t, "kitt-agent", s.RequestLog()[0].Header.Get("User-Agent"))
}

func TestRegisterNamesAGPUThatIsWell(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	machine := *h100
	machine.GPUs = []hwdetect.GPU{{Index: 0}, h100.GPUs[1]} // the first does not answer
	_, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01", Machine: &machine})
	require.NoError(t, err)
	a, ok := s.Agent("gpu-01")
	require.True(t, ok)
	require.Equal(t, "NVIDIA H100 80GB HBM3 80GB", a.Fields["gpu_info"])
	require.EqualValues(t, 2, a.Fields["gpu_count"])
	require.Contains(t, a.Fields["hardware_details"], `"gpu_model":"NVIDIA H100 80GB HBM3","gpu_vram_gb":80`)
}

func ptr[T any](v T) *T { return &v }

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL, UserAgent: "kitt-agent/1.2.3"})
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu é 1"})
	require.NoError(t, err)
	test, _, err := s.Launch("gpu é 1", "/m")
	require.NoError(t, err)
	s.SetSetting("gpu é 1", "kitt_image", "kitt:1")

	answer, err := c.Heartbeat(t.Context(), "gpu é 1", heartbeat.Beat{
		Status: heartbeat.StatusRunning, Task: "t1", GPUUtilPct: ptr(42.125), GPUMemoryBytes: ptr(int64(5 << 28)),
		StorageFree: ptr(int64(812_400_000_000)), Uptime: 12345 * time.Millisecond,
		Engines: []heartbeat.Engine{{Engine: "vllm", Port: 8000}},
	})
	require.NoError(t, err)
	require.Equal(t, reg.AgentID, answer.AgentID)
	require.Equal(t, "kitt:1", answer.Settings["kitt_image"])
	require.Len(t, answer.Settings, 6)
	require.Len(t, answer.Commands, 1)
	require.Equal(t, test, answer.Commands[0].TestID)
	require.Equal(t, "run_test", answer.Commands[0].Type)
	require.JSONEq(t, `{"model_path":"/m","engine_name":"vllm","benchmark_name":"throughput","suite_name":"quick","engine_mode":"docker","profile_id":""}`,
		string(answer.Commands[0].Payload))

	_, err = c.Heartbeat(t.Context(), reg.AgentID, heartbeat.Beat{})
	require.NoError(t, err)
	beats := s.Heartbeats(reg.AgentID)
	require.Equal(t, map[string]any{
		"status": "running", "current_task": "t1", "gpu_utilization_pct": 42.13, "gpu_memory_used_gb": 1.25,
		"storage_gb_free": 756.61, "uptime_s": 12.35,
		"engines": []any{map[string]any{
			"engine": "vllm", "installed": false, "binary_path": "", "version": "", "running": false, "pid": 0.0, "port": 8000.0,
		}},
	}, beats[0].Body)
	require.Equal(t, map[string]any{"current_task": "", "uptime_s": 0.0, "engines": []any{}}, beats[1].Body, "unknown fields are omitted")
	require.Equal(t, "kitt-agent/1.2.3", s.RequestLog()[1].Header.Get("User-Agent"))

	_, err = c.Heartbeat(t.Context(), "nobody", heartbeat.Beat{})
	require.ErrorIs(t, err, heartbeat.ErrUnknownAgent)
	_, refused := errors.AsType[*reporter.RejectedError](err)
	require.False(t, refused)
	_, err = c.Heartbeat(t.Context(), "rack1/gpu", heartbeat.Beat{})
	require.ErrorContains(t, err, "cannot be part of a path")
}

func TestReports(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{AuthToken: "operator"})
	c := newClient(t, kittapi.Config{URL: s.URL, Token: "own", ServerToken: "operator"})
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	test, err := c.Launch(t.Context(), kittapi.Launch{AgentID: reg.AgentID, Model: "/m", Engine: "vllm", Suite: "standard"})
	require.NoError(t, err)

	require.NoError(t, c.ReportStatus(t.Context(), test, "running", ""))
	lines := []string{"one", "two\nthree", "", "\x1b[32m✓\x1b[0m <&>", "bad \xff\xfe end \xed\xa0\x80", "nul \x00"}
	for _, line := range lines {
		require.NoError(t, c.ReportLog(t.Context(), test, line))
	}
	rows, err := c.LogRows(t.Context(), test)
	require.NoError(t, err)
	lines[4] = "bad �� end ���"
	require.Equal(t, lines, rows)

	result := reporter.Result{CommandID: "c1", Status: "failed", Error: "Exit 1", Data: map[string]any{
		"model": "m", "engine": "vllm", "timestamp": "2026-11-23T16:16:01.500082", "results": nil, "passed": false,
	}}
	require.NoError(t, c.ReportResult(t.Context(), reg.AgentID, result))
	require.NoError(t, c.ReportResult(t.Context(), "gpu-01", reporter.Result{CommandID: "c2", Status: "completed"}))
	require.Len(t, s.Results(), 1)
	require.NotContains(t, s.Results()[0], "results")
	require.Equal(t, "Exit 1", s.Reports()[0].Error)
	require.Nil(t, s.Reports()[1].Data)
	log := s.RequestLog()
	require.NotContains(t, log[len(log)-1].Body, "result_data")

	require.NoError(t, c.ReportStatus(t.Context(), test, "failed", kittapi.CancelledByUser))
	got, err := c.Test(t.Context(), test)
	require.NoError(t, err)
	require.Equal(t, reporter.Failed, got.Status)
	require.Equal(t, "Cancelled by user", got.Error)
	require.False(t, got.Reopened)
	require.NoError(t, c.ReportStatus(t.Context(), test, "running", ""))
	got, err = c.Test(t.Context(), test)
	require.NoError(t, err)
	require.True(t, got.Reopened, "it had ended")
	require.Empty(t, s.Breaches())
	for _, r := range s.RequestLog() {
		want := "Bearer own"
		if strings.Contains(r.Path, "quicktest") && r.Method == "POST" {
			want = "Bearer operator"
		}
		require.Equal(t, want, r.Header.Get("Authorization"), r.Path)
	}
}

func TestHasResult(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	_, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	for i := range 45 {
		at := fmt.Sprintf("2026-11-23T16:%02d:00", i)
		require.NoError(t, c.ReportResult(t.Context(), "gpu-01", reporter.Result{Data: map[string]any{"model": "m", "engine": "vllm", "timestamp": at}}))
	}
	// A result of a Python agent, which is not valid JSON.
	resp, err := http.Post(s.URL+"/api/v1/agents/gpu-01/results", "application/json", strings.NewReader(
		`{"result_data":{"model":"m","engine":"vllm","timestamp":"2026-11-23T15:00:00","results":[{"metrics":{"x":NaN,"y":-Infinity}}]}}`))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	for at, want := range map[string]bool{
		"2026-11-23T16:44:00": true, "2026-11-23T16:00:00": true, "2026-11-23T15:00:00": true,
		"2026-11-23T16:30:30": false, "": false, "2027": false,
	} {
		has, err := c.HasResult(t.Context(), "m", "vllm", at)
		require.NoError(t, err)
		require.Equal(t, want, has, at)
	}
	has, err := c.HasResult(t.Context(), "", "", "2026-11-23T16:44:00")
	require.NoError(t, err)
	require.False(t, has, "an empty text is no wildcard")
	has, err = c.HasResult(t.Context(), "other", "vllm", "2026-11-23T16:44:00")
	require.NoError(t, err)
	require.False(t, has)
}

func TestFindTest(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	find := func(name, commandID string) string {
		t.Helper()
		id, err := c.FindTest(t.Context(), name, commandID)
		require.NoError(t, err)
		return id
	}
	id, commandID, err := s.Launch("gpu-01", "m")
	require.NoError(t, err)
	require.Empty(t, find("gpu-01", commandID), "it was not handed out")
	_, err = c.Heartbeat(t.Context(), reg.AgentID, heartbeat.Beat{})
	require.NoError(t, err)
	require.Equal(t, id, find("gpu-01", commandID))
	require.NoError(t, c.ReportStatus(t.Context(), id, "running", ""))
	require.Equal(t, id, find("gpu-01", commandID))
	require.Empty(t, find("gpu-01", "other"))
	require.Empty(t, find("gpu-02", commandID))
	require.NoError(t, c.ReportStatus(t.Context(), id, "failed", "x"))
	require.Empty(t, find("gpu-01", commandID))
}

func TestDispatched(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	post := func(path, body string) {
		resp, err := http.Post(s.URL+"/api/v1/"+path, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 202, resp.StatusCode)
	}
	post("quicktest/", `{"agent_id":"`+reg.AgentID+`","model_path":"/m","engine_name":"vllm"}`)
	post("agents/"+reg.AgentID+"/cleanup", `{}`)
	post("engines/agents/"+reg.AgentID+"/start", `{"engine_name":"llama_cpp","model_path":"/x","runtime_config":{"n_ctx":4096}}`)

	// The commands of heartbeats with a lost answer are found again.
	var want []heartbeat.Command
	for range 3 {
		answer, err := c.Heartbeat(t.Context(), "gpu-01", heartbeat.Beat{})
		require.NoError(t, err)
		want = append(want, answer.Commands...)
	}
	require.Len(t, want, 3)
	got, err := c.Dispatched(t.Context(), "gpu-01")
	require.NoError(t, err)
	require.Len(t, got, 3)
	for _, w := range want {
		found := false
		for _, g := range got {
			if g.ID == w.ID {
				found = true
				require.JSONEq(t, string(w.Payload), string(g.Payload))
				require.Equal(t, w.Type, g.Type)
				require.Equal(t, w.TestID, g.TestID)
				require.WithinDuration(t, time.Now(), g.CreatedAt, 10*time.Second)
			}
		}
		require.True(t, found, w.Type)
	}
	for i := 1; i < len(got); i++ {
		require.False(t, got[i].CreatedAt.Before(got[i-1].CreatedAt), "oldest first")
	}
	none, err := c.Dispatched(t.Context(), "nobody")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestForTheCommandLine(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	require.NoError(t, c.Health(t.Context()))
	v, err := c.Version(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.7.0", v)
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	var last string
	for range 3 {
		last, err = c.Launch(t.Context(), kittapi.Launch{AgentID: reg.AgentID, Model: "/m", Engine: "vllm"})
		require.NoError(t, err)
	}
	page, err := c.Tests(t.Context(), kittapi.Filter{Agent: "gpu-01", Status: "queued", PerPage: 2})
	require.NoError(t, err)
	require.Equal(t, 3, page.Total)
	require.Equal(t, 2, page.Pages)
	require.Len(t, page.Items, 2)
	require.Equal(t, last, page.Items[0].ID)
	require.Equal(t, "gpu-01", page.Items[0].AgentName)
	page, err = c.Tests(t.Context(), kittapi.Filter{Page: 2, PerPage: 2})
	require.NoError(t, err)
	require.Len(t, page.Items, 1)
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-0123456789"
	cfg := kittapi.Config{URL: "http://127.0.0.1:1", Token: secret, ServerToken: secret}
	encoded, err := json.Marshal(struct{ A, B agent.Secret }{cfg.Token, cfg.ServerToken})
	require.NoError(t, err)
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "token", cfg.Token, "cfg", cfg)
	for _, text := range []string{
		fmt.Sprint(cfg), fmt.Sprintf("%+v %#v %q %x %s", cfg, cfg, cfg.Token, cfg.Token, cfg.Token), string(encoded), logged.String(),
	} {
		require.NotContains(t, text, secret)
		require.NotContains(t, text, fmt.Sprintf("%x", secret))
	}
	err = newClient(t, cfg).Health(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), secret)
}

func TestNewNamesEveryFault(t *testing.T) {
	t.Parallel()
	tests := []struct {
		cfg  kittapi.Config
		want []string
	}{
		{kittapi.Config{}, []string{"URL is missing"}},
		{kittapi.Config{URL: "kitt.example:8080"}, []string{"URL", "http://"}},
		{kittapi.Config{URL: "http://u:pw@h"}, []string{"user or password"}},
		{kittapi.Config{URL: "http://h?x=1"}, []string{"URL"}},
		{kittapi.Config{URL: "http://h", CertFile: "c", Timeout: -1}, []string{"CertFile and KeyFile", "Timeout"}},
		{kittapi.Config{URL: "http://h", Token: "a b"}, []string{"Token has white space"}},
		{kittapi.Config{URL: "http://h", ServerToken: "é"}, []string{"ServerToken has"}},
		{kittapi.Config{URL: "http://h", CAFile: "absent.pem"}, []string{"CAFile", "absent.pem"}},
		{kittapi.Config{URL: "http://h", Transport: http.DefaultTransport, Insecure: true}, []string{"Transport"}},
	}
	for _, tt := range tests {
		_, err := kittapi.New(tt.cfg)
		for _, want := range tt.want {
			require.ErrorContains(t, err, want)
		}
		require.NotContains(t, err.Error(), "pw")
	}
}

// answering returns a client of a server that answers everything with h.
func answering(t *testing.T, cfg kittapi.Config, h http.HandlerFunc) *kittapi.Client {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg.URL = s.URL
	return newClient(t, cfg)
}

// wrote returns a handler with this answer.
func wrote(status int, kind, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", kind)
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// TestWhatCountsAsTheServersWord makes each call with each kind of answer.
func TestWhatCountsAsTheServersWord(t *testing.T) {
	t.Parallel()
	const jsonKind, html = "application/json", "text/html; charset=utf-8"
	const page = "<!doctype html><title>x</title>"
	type check func(t *testing.T, err error)
	outage := func(t *testing.T, err error) {
		require.Error(t, err)
		_, refused := errors.AsType[*reporter.RejectedError](err)
		require.False(t, refused, "%v", err)
		require.NotErrorIs(t, err, heartbeat.ErrUnknownAgent)
		require.NotErrorIs(t, err, reporter.ErrServerFailed)
	}
	refusal := func(status int, text string) check {
		return func(t *testing.T, err error) {
			refused, ok := errors.AsType[*reporter.RejectedError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, status, refused.Code)
			require.True(t, strings.HasPrefix(refused.Message, text), refused.Message)
		}
	}
	broken := func(t *testing.T, err error) { require.ErrorIs(t, err, reporter.ErrServerFailed) }
	unauthorized := func(t *testing.T, err error) {
		outage(t, err)
		require.ErrorIs(t, err, kittapi.ErrUnauthorized)
	}
	after := func(want time.Duration) check {
		return func(t *testing.T, err error) {
			retry, ok := errors.AsType[*reporter.RetryAfterError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, want, retry.After)
			_, refused := errors.AsType[*reporter.RejectedError](err)
			require.False(t, refused)
		}
	}
	answers := []struct {
		name   string
		answer http.HandlerFunc
		check  check
	}{
		{"portal", wrote(200, html, page), outage},
		{"empty", wrote(200, jsonKind, ""), outage},
		{"other JSON", wrote(200, jsonKind, `{"hello":"world"}`), outage},
		{"null", wrote(200, jsonKind, `null`), outage},
		{"list", wrote(200, jsonKind, `[]`), outage},
		{"not acknowledged", wrote(200, jsonKind, `{"ack":false,"ok":false,"accepted":false,"agent_id":"","items":null,"lines":null,"id":""}`), outage},
		{"cut", wrote(200, jsonKind, `{"ack":true,"ok":tr`), outage},
		{"cut by its length", wrote(200, jsonKind, `{"ack":true}`, "Content-Length", "4000"), outage},
		{"huge", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(endless{}, 300<<20))
		}, outage},
		{"bad gateway", wrote(502, html, page), outage},
		{"proxy 404", wrote(404, html, page), outage},
		{"gateway's JSON", wrote(403, jsonKind, `{"message":"Forbidden"}`), outage},
		{"error beside more", wrote(404, jsonKind, `{"error":"no route","path":"/"}`), outage},
		{"error that is no text", wrote(404, jsonKind, `{"error":null}`), outage},
		{"redirect", wrote(302, html, page, "Location", "https://elsewhere.example/login"), outage},
		{"refused", wrote(400, jsonKind, `{"error":"'line' is required"}`), refusal(400, "'line' is required")},
		{"not found", wrote(404, jsonKind, `{"error":"Quick test not found"}`), refusal(404, "Quick test not found")},
		{"forbidden", wrote(403, jsonKind, `{"error":"Invalid token for this agent"}`), refusal(403, "Invalid token for this agent")},
		{"unauthorized", wrote(401, jsonKind, `{"error":"Missing authorization"}`), unauthorized},
		{"proxy 401", wrote(401, html, page), unauthorized},
		{"broken", wrote(500, html, page), broken},
		{"broken with JSON", wrote(500, jsonKind, `{"error":"Failed"}`), broken},
		{"overloaded", wrote(503, html, page, "Retry-After", "7"), after(7 * time.Second)},
		{"until a date", wrote(429, html, page, "Date", "Mon, 23 Nov 2026 16:00:00 GMT", "Retry-After", "Mon, 23 Nov 2026 16:00:42 GMT"), after(42 * time.Second)},
		{"until yesterday", wrote(503, html, page, "Date", "Mon, 23 Nov 2026 16:00:00 GMT", "Retry-After", "Sun, 22 Nov 2026 16:00:00 GMT"), after(0)},
		{"for a year", wrote(503, html, page, "Retry-After", "31536000"), after(10 * time.Minute)},
		{"soon", wrote(503, html, page, "Retry-After", "soon"), outage},
		{"broken, later", wrote(500, html, page, "Retry-After", "1"), broken},
	}
	calls := map[string]func(ctx context.Context, c *kittapi.Client) error{
		"Register": func(ctx context.Context, c *kittapi.Client) error {
			_, err := c.Register(ctx, agent.Registration{Name: "a"})
			return err
		},
		"Heartbeat": func(ctx context.Context, c *kittapi.Client) error {
			_, err := c.Heartbeat(ctx, "a", heartbeat.Beat{})
			return err
		},
		"ReportStatus": func(ctx context.Context, c *kittapi.Client) error { return c.ReportStatus(ctx, "t", "running", "") },
		"ReportLog":    func(ctx context.Context, c *kittapi.Client) error { return c.ReportLog(ctx, "t", "x") },
		"ReportResult": func(ctx context.Context, c *kittapi.Client) error { return c.ReportResult(ctx, "a", reporter.Result{}) },
		"ReportEncodedResult": func(ctx context.Context, c *kittapi.Client) error {
			return c.ReportEncodedResult(ctx, "a", reporter.EncodedResult{Data: strings.NewReader("{}"), Size: 2})
		},
		"Test": func(ctx context.Context, c *kittapi.Client) error { _, err := c.Test(ctx, "t"); return err },
		"HasResult": func(ctx context.Context, c *kittapi.Client) error {
			_, err := c.HasResult(ctx, "m", "e", "t")
			return err
		},
		"Dispatched": func(ctx context.Context, c *kittapi.Client) error { _, err := c.Dispatched(ctx, "a"); return err },
		"Health":     func(ctx context.Context, c *kittapi.Client) error { return c.Health(ctx) },
		"Version":    func(ctx context.Context, c *kittapi.Client) error { _, err := c.Version(ctx); return err },
		"Launch": func(ctx context.Context, c *kittapi.Client) error {
			_, err := c.Launch(ctx, kittapi.Launch{})
			return err
		},
	}
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := answering(t, kittapi.Config{Token: "own", ServerToken: "operator"}, tt.answer)
			for name, call := range calls {
				if tt.name == "huge" && name != "Heartbeat" && name != "Test" {
					continue // one call of each size would do, and it takes its time
				}
				t.Run(name, func(t *testing.T) { tt.check(t, call(t.Context(), c)) })
			}
		})
	}
}

// endless is a reader without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	const jsonKind = "application/json"
	forbidden := wrote(403, jsonKind, `{"error":"Invalid token for this agent"}`)
	notOperator := wrote(403, jsonKind, `{"error":"Invalid authentication token"}`)
	missing := wrote(401, jsonKind, `{"error":"Missing authorization"}`)
	beat := func(c *kittapi.Client) error { _, err := c.Heartbeat(t.Context(), "a", heartbeat.Beat{}); return err }
	line := func(c *kittapi.Client) error { return c.ReportLog(t.Context(), "t", "x") }
	tests := []struct {
		name   string
		cfg    kittapi.Config
		answer http.HandlerFunc
		call   func(*kittapi.Client) error
		want   []string
	}{
		{"replaced token", kittapi.Config{Token: "own"}, forbidden, beat, []string{"is wrong or was replaced on the server", "rotate-token", "agent.yaml"}},
		{"server token missing", kittapi.Config{Token: "own"}, notOperator, line, []string{"server_token", "--auth-token"}},
		{"server token wrong", kittapi.Config{ServerToken: "x"}, notOperator, line, []string{"server_token in agent.yaml is not"}},
		{"no token", kittapi.Config{}, missing, beat, []string{"as token in agent.yaml"}},
		{"no server token", kittapi.Config{}, missing, line, []string{"as server_token in agent.yaml"}},
		{"token taken away", kittapi.Config{Token: "own"}, missing, beat, []string{"proxy"}},
		{"moved", kittapi.Config{}, wrote(301, "text/html", "", "Location", "https://new.example/"), beat, []string{"server_url", "https://new.example/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.call(answering(t, tt.cfg, tt.answer))
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestForeignTextsInErrorsAreTamed(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(map[string]string{"error": "a\nb\x1b[31m\u202e" + strings.Repeat("x", 5000)})
	require.NoError(t, err)
	err = answering(t, kittapi.Config{}, wrote(400, "application/json", string(body))).ReportLog(t.Context(), "t", "x")
	require.Less(t, len(err.Error()), 600)
	require.NotContains(t, err.Error(), "\x1b")
	require.NotContains(t, err.Error(), "\n")
}

func TestTimeLimits(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	s.SetFault(kittapitest.Always(kittapitest.Fault{Hang: true}))
	err := newClient(t, kittapi.Config{URL: s.URL, Timeout: 20 * time.Millisecond}).Health(t.Context())
	require.ErrorContains(t, err, "no answer within 20ms")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = newClient(t, kittapi.Config{URL: s.URL}).Health(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestBadParts(t *testing.T) {
	t.Parallel()
	var logged strings.Builder
	c := answering(t, kittapi.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))}, wrote(200, "application/json", `{
		"ack": true, "agent_id": 7,
		"commands": [5, {"command_id": {}, "test_id": "t"}, {"command_id": 12, "type": "run_test", "surplus": 1, "payload": {"x": NaN}}],
		"settings": {"a": "b", "n": 60, "t": true, "z": null, "l": [1]}}`))
	answer, err := c.Heartbeat(t.Context(), "a", heartbeat.Beat{})
	require.NoError(t, err, "a fault in one part must not cost the others")
	require.Equal(t, "7", answer.AgentID)
	require.Len(t, answer.Commands, 2)
	require.Equal(t, heartbeat.Command{TestID: "t"}, answer.Commands[0])
	require.Equal(t, "12", answer.Commands[1].ID)
	require.JSONEq(t, `{"x": null}`, string(answer.Commands[1].Payload))
	require.Equal(t, map[string]string{"a": "b", "n": "60", "t": "true", "l": "[1]"}, answer.Settings)
	require.Equal(t, 1, strings.Count(logged.String(), "heartbeat's answer ignored"))

	c = answering(t, kittapi.Config{}, wrote(200, "application/json", `{"ack": true, "commands": {}, "settings": []}`))
	answer, err = c.Heartbeat(t.Context(), "a", heartbeat.Beat{})
	require.NoError(t, err)
	require.Equal(t, heartbeat.Answer{}, answer)
}

// TestLostAnswers shows the case that an Inquirer is for.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t, kittapitest.Config{})
	c := newClient(t, kittapi.Config{URL: s.URL})
	reg, err := c.Register(t.Context(), agent.Registration{Name: "gpu-01"})
	require.NoError(t, err)
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	for _, f := range []kittapitest.Fault{{CutAnswer: true}, {CutAfter: 3}} {
		s.SetFault(kittapitest.On("POST /api/v1/quicktest/*/logs", kittapitest.Always(f)))
		require.Error(t, c.ReportLog(t.Context(), test, "x"))
	}
	s.SetFault(kittapitest.On("/api/v1/agents/*/heartbeat", kittapitest.Always(kittapitest.Fault{CutAnswer: true})))
	_, err = c.Heartbeat(t.Context(), reg.AgentID, heartbeat.Beat{})
	require.Error(t, err)
	rows, err := c.LogRows(t.Context(), test)
	require.NoError(t, err)
	require.Equal(t, []string{"x", "x"}, rows)
	lost, err := c.Dispatched(t.Context(), "gpu-01")
	require.NoError(t, err)
	require.Len(t, lost, 1)
	require.Equal(t, test, lost[0].TestID)
}

// TestAnEncodedResultIsTheSameRequest sends a result from memory and from disk. The
// server gets the same request.
func TestAnEncodedResultIsTheSameRequest(t *testing.T) {
	t.Parallel()
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, fmt.Sprintf("%s %s %d %s %s", r.Method, r.URL, r.ContentLength, r.Header.Get("Content-Type"), body))
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"accepted":true}`)
	}))
	defer server.Close()
	c := newClient(t, kittapi.Config{URL: server.URL})
	for name, data := range map[string]map[string]any{
		"data":    {"model": "<m>", "results": []any{map[string]any{"metrics": map[string]any{"x": 1.5}}}},
		"a lot":   {"model": strings.Repeat("x", 3<<20)},
		"no data": nil,
	} {
		bodies = nil
		result := reporter.Result{CommandID: "c", Status: "failed", ContainerID: "d", Error: `e"}`, Data: data}
		encoded := reporter.EncodedResult{CommandID: "c", Status: "failed", ContainerID: "d", Error: `e"}`}
		if data != nil {
			var text bytes.Buffer
			enc := json.NewEncoder(&text)
			enc.SetEscapeHTML(false)
			require.NoError(t, enc.Encode(data))
			encoded.Size = int64(text.Len() - 1)
			encoded.Data = bytes.NewReader(text.Bytes())
		}
		require.NoError(t, c.ReportResult(t.Context(), "a", result), name)
		require.NoError(t, c.ReportEncodedResult(t.Context(), "a", encoded), name)
		require.Len(t, bodies, 2)
		require.Equal(t, bodies[0], bodies[1], name)
	}
}
