package kittapitest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// start starts a server and closes it with the test.
func start(t testing.TB, cfg kittapitest.Config) *kittapitest.Server {
	s, err := kittapitest.NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// client opens a connection a request, as a test would otherwise leave some
// behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// do makes a request and returns the answer's status and body.
func do(t testing.TB, method, url, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// must makes a request that has to succeed, and returns the answer's fields.
func must(t testing.TB, method, url, body string) map[string]any {
	status, text, err := do(t, method, url, body)
	require.NoError(t, err)
	require.Less(t, status, 300, text)
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &fields))
	return fields
}

// register makes an agent known and returns its id.
func register(t testing.TB, s *kittapitest.Server, name string) string {
	return must(t, "POST", s.URL+"/api/v1/agents/register", fmt.Sprintf(`{"name":%q,"hostname":"h"}`, name))["agent_id"].(string)
}

func TestLaunchToResult(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	_, _, err := s.Launch("gpu-01", "/models/m")
	require.ErrorContains(t, err, `no agent "gpu-01"`)
	id := register(t, s, "gpu-01")
	test, command, err := s.Launch("gpu-01", "/models/m", func(t *kittapitest.Test) { t.Suite = "standard" })
	require.NoError(t, err)

	beat := must(t, "POST", s.URL+"/api/v1/agents/gpu-01/heartbeat", `{"status":"idle"}`)
	handed := beat["commands"].([]any)[0].(map[string]any)
	require.Equal(t, command, handed["command_id"])
	require.Equal(t, "standard", handed["payload"].(map[string]any)["suite_name"])
	for _, status := range []string{`{"status":"running"}`, `{"status":"failed","error":"Exit 1"}`} {
		must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/status", status)
	}
	must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"a\nb"}`)
	must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"c"}`)
	must(t, "POST", s.URL+"/api/v1/agents/"+id+"/results", `{"command_id":"x","status":"failed","error":"Exit 1","result_data":{"model":"m"}}`)

	require.NoError(t, s.WaitForEnd(t.Context(), test))
	ended, ok := s.Test(test)
	require.True(t, ok)
	require.Equal(t, []string{"queued", "dispatched", "running", "failed"}, ended.History)
	require.Equal(t, "Exit 1", ended.Error)
	require.Equal(t, []string{"a\nb", "c"}, s.Rows(test))
	require.Equal(t, []string{"a", "b", "c"}, s.Lines(test))
	require.Equal(t, "m", s.Results()[0]["model"])
	require.Equal(t, "Exit 1", s.Reports()[0].Error)
	require.Equal(t, 1, s.Beats("gpu-01"))
	require.Equal(t, "idle", s.Heartbeats(id)[0].Status)
	require.Len(t, s.RequestLog(), 7)
	require.Equal(t, "POST", s.RequestLog()[0].Method)
	require.Equal(t, 2, s.Requests()["POST /api/v1/quicktest/{id}/logs"])
	require.Empty(t, s.Breaches())

	s.Forget()
	require.Empty(t, s.Agents())
	status, text, err := do(t, "POST", s.URL+"/api/v1/agents/"+id+"/heartbeat", "{}")
	require.NoError(t, err)
	require.Equal(t, 404, status)
	require.JSONEq(t, `{"error":"Agent not found"}`, text)
}

func TestWaitForStatusTellsWhatBecameOfTheTest(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	register(t, s, "gpu-01")
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"no such model"}`)
	s.SetStatus(test, "failed", "Exit 1")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = s.WaitForStatus(t.Context(), test, "completed")
	require.ErrorIs(t, err, kittapitest.ErrEnded, "it does not wait for what cannot come")
	require.ErrorContains(t, err, `of agent "gpu-01" is failed, not completed (Exit 1; so far queued, failed): the test has ended; its log:`+"\n\tno such model")
	require.ErrorIs(t, s.WaitForLine(t.Context(), test, "CUDA"), kittapitest.ErrEnded)
	require.NoError(t, s.WaitForLine(t.Context(), test, "such model"))
	require.NoError(t, s.WaitForStatus(t.Context(), test, "queued"), "it was")
	require.NoError(t, s.WaitForEnd(t.Context(), test))
	_, err = s.WaitForReport(ctx, test)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no such model")
	require.ErrorContains(t, s.WaitForStatus(ctx, "nope", "completed"), `there is no test "nope"`)

	other, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	err = s.WaitForStatus(ctx, other, "running")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "is queued, not running (so far queued): context deadline exceeded; its log: empty")
}

func TestWaitForStatusReturnsWhenItComes(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	register(t, s, "gpu-01")
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.WaitForStatus(t.Context(), test, "running") }()
	must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/status", `{"status":"running"}`)
	require.NoError(t, <-done)
	require.NoError(t, s.WaitForAgent(t.Context(), "gpu-01"))
	s.AddAgent("gpu-02")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorContains(t, s.WaitForAgent(ctx, "gpu-02"), "has not registered: context deadline exceeded; there are: gpu-01 (online), gpu-02 (provisioned)")
	require.Equal(t, 1, strings.Count(fmt.Sprint(s.Agents()), "provisioned"))
}

func TestAnAgentIsOfflineAfter90Seconds(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
	s := start(t, kittapitest.Config{Now: func() time.Time { return time.Unix(0, now.Load()).UTC() }})
	id := register(t, s, "gpu-01")
	tagged := register(t, s, "virtual")
	must(t, "PATCH", s.URL+"/api/v1/agents/"+tagged, `{"tags":"[\"test\"]"}`)
	status := func(name string) string {
		a, ok := s.Agent(name)
		require.True(t, ok)
		return a.Status
	}
	now.Add(int64(90 * time.Second))
	require.Equal(t, "online", status("gpu-01"))
	now.Add(int64(time.Second))
	require.Equal(t, "offline", status("gpu-01"))
	require.Equal(t, "online", status("virtual"), "a test agent never goes offline")
	must(t, "POST", s.URL+"/api/v1/agents/"+id+"/heartbeat", `{"status":"idle"}`)
	require.Equal(t, "idle", status("gpu-01"))
}

func TestSettingsReachTheNextBeat(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	register(t, s, "gpu-01")
	s.SetSetting("gpu-01", "kitt_image", "kitt:1")
	beat := must(t, "POST", s.URL+"/api/v1/agents/gpu-01/heartbeat", `{}`)
	require.Equal(t, "kitt:1", beat["settings"].(map[string]any)["kitt_image"])
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const html = "text/html"
	tests := []struct {
		name    string
		fault   kittapitest.Fault
		handled bool
		check   func(t *testing.T, status int, body string, err error)
	}{
		{"reset", kittapitest.Fault{Reset: true}, false, func(t *testing.T, _ int, _ string, err error) {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}},
		{"answer lost", kittapitest.Fault{CutAnswer: true}, true, func(t *testing.T, _ int, _ string, err error) {
			require.ErrorIs(t, err, syscall.ECONNRESET)
		}},
		{"answer cut", kittapitest.Fault{CutAfter: 5}, true, func(t *testing.T, status int, body string, err error) {
			require.Equal(t, 200, status)
			require.Equal(t, `{"ok"`, body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}},
		{"broken", kittapitest.Fault{Status: 500}, false, func(t *testing.T, status int, body string, err error) {
			require.NoError(t, err)
			require.Equal(t, 500, status)
			require.Contains(t, body, "Internal Server Error")
		}},
		{"proxy", kittapitest.Fault{Status: 502, Body: "<h1>bad gateway</h1>", Type: html, RetryAfter: "5"}, false, func(t *testing.T, status int, body string, err error) {
			require.NoError(t, err)
			require.Equal(t, 502, status)
			require.Equal(t, "<h1>bad gateway</h1>", body)
		}},
		{"portal", kittapitest.Fault{Body: "<h1>please log in</h1>"}, false, func(t *testing.T, status int, _ string, err error) {
			require.NoError(t, err)
			require.Equal(t, 200, status)
		}},
		{"slow", kittapitest.Fault{Delay: time.Millisecond, SlowRead: time.Millisecond, SlowWrite: time.Millisecond}, true, func(t *testing.T, status int, _ string, err error) {
			require.NoError(t, err)
			require.Equal(t, 200, status)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, kittapitest.Config{})
			register(t, s, "gpu-01")
			test, _, err := s.Launch("gpu-01", "/m")
			require.NoError(t, err)
			s.SetFault(kittapitest.On("POST /api/v1/quicktest/*/logs", kittapitest.First(1, kittapitest.Always(tt.fault))))
			status, body, err := do(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"x"}`)
			tt.check(t, status, body, err)
			require.Equal(t, tt.handled, len(s.Lines(test)) == 1)
			must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"after"}`)
			requests := s.RequestLog()
			require.Equal(t, tt.handled, requests[len(requests)-2].Handled)
		})
	}
}

func TestWrongIDs(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	s.SetFault(kittapitest.Always(kittapitest.Fault{WrongID: true}))
	told := register(t, s, "gpu-01")
	a, ok := s.Agent("gpu-01")
	require.True(t, ok)
	require.NotEqual(t, a.ID, told)
}

// A slow server costs the time that it says: on a clock of the test's own.
func TestSlowness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := kittapitest.New(kittapitest.Config{})
		defer s.Close()
		id := s.AddAgent("gpu-01")
		test, _, err := s.Launch("gpu-01", "/m")
		require.NoError(t, err)
		ask := func(method, path, body string, f kittapitest.Fault) (took time.Duration, answer string) {
			s.SetFault(kittapitest.Always(f))
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			began := time.Now()
			s.ServeHTTP(w, r)
			require.Equal(t, 200, w.Code, w.Body.String())
			return time.Since(began), w.Body.String()
		}
		line := `{"line":"` + strings.Repeat("x", 10<<10) + `"}`
		took, _ := ask("POST", "/api/v1/quicktest/"+test+"/logs", line, kittapitest.Fault{SlowRead: time.Minute})
		require.Equal(t, 3*time.Minute, took, "10 KiB")
		took, quick := ask("GET", "/api/v1/agents/"+id, "", kittapitest.Fault{})
		require.Zero(t, took)
		took, slow := ask("GET", "/api/v1/agents/"+id, "", kittapitest.Fault{SlowWrite: time.Minute})
		require.Equal(t, quick, slow)
		require.Equal(t, time.Duration((len(slow)+255)/256)*time.Minute, took)
		took, _ = ask("GET", "/api/v1/health", "", kittapitest.Fault{Delay: time.Hour})
		require.Equal(t, time.Hour, took)
	})
}

func TestAWrongClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := start(t, kittapitest.Config{Now: func() time.Time { return now }})
	register(t, s, "gpu-01")
	date := func() string {
		resp, err := client.Get(s.URL + "/api/v1/health")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.Header.Get("Date")
	}
	require.Equal(t, "Mon, 23 Nov 2026 12:00:00 GMT", date())
	s.SetClockSkew(-24 * time.Hour)
	require.Equal(t, "Sun, 22 Nov 2026 12:00:00 GMT", date())
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	launched, _ := s.Test(test)
	require.Equal(t, "2026-11-22T12:00:00", launched.CreatedAt)
	s.SetClockSkew(2 * time.Minute)
	a, _ := s.Agent("gpu-01")
	require.Equal(t, "offline", a.Status)
}

func TestSometimesRepeatsItselfBySeed(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) (hits []bool) {
		f := kittapitest.Sometimes(seed, 0.3, kittapitest.Fault{Reset: true})
		for range 200 {
			hits = append(hits, f(nil).Reset)
		}
		return hits
	}
	require.Equal(t, draw(7), draw(7))
	require.NotEqual(t, draw(7), draw(8))
	n := 0
	for _, hit := range draw(7) {
		if hit {
			n++
		}
	}
	require.InDelta(t, 60, n, 25)
}

func TestAHangingRequestEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	arrived := make(chan struct{})
	s.SetFault(func(*http.Request) kittapitest.Fault {
		close(arrived)
		return kittapitest.Fault{Hang: true}
	})
	failed := make(chan error, 1)
	go func() {
		_, _, err := do(t, "GET", s.URL+"/api/v1/health", "")
		failed <- err
	}()
	<-arrived
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "twice is fine")
	require.Error(t, <-failed)
}

func TestDown(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	s.SetDown(true)
	_, _, err := do(t, "GET", s.URL+"/api/v1/health", "")
	require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF), "%v", err)
	s.SetDown(false)
	must(t, "GET", s.URL+"/api/v1/health", "")
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{Keepalive: 20 * time.Millisecond})
	register(t, s, "gpu-01")
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	other, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/events/stream/"+test, nil)
	require.NoError(t, err)
	resp, err := client.Do(req) // the head comes with the first keepalive
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	require.True(t, resp.Close)

	must(t, "POST", s.URL+"/api/v1/quicktest/"+other+"/logs", `{"line":"not for us"}`)
	must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", `{"line":"h\u00e9llo"}`)
	var events []string
	lines := bufio.NewScanner(resp.Body)
	for len(events) < 2 && lines.Scan() {
		if text := lines.Text(); text != "" && text != ": keepalive" {
			events = append(events, text)
		}
	}
	require.Equal(t, []string{"event: log", `data: {"line": "h\u00e9llo", "test_id": "` + test + `"}`}, events)

	s.SetDown(true) // cuts the stream
	for lines.Scan() {
	}
	require.Error(t, lines.Err())
}

func TestOverTLS(t *testing.T) {
	t.Parallel()
	conf, ca, err := kittapitest.NewTLS()
	require.NoError(t, err)
	s := start(t, kittapitest.Config{TLS: conf})
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/api/v1/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.True(t, resp.Close)
}

func TestAnAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	_, err := kittapitest.NewServer(kittapitest.Config{Addr: strings.TrimPrefix(s.URL, "http://")})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestARotatedTokenLocksAnAgentOut(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	register(t, s, "gpu-01")
	require.Len(t, s.RotateToken("gpu-01"), 64)
	require.Empty(t, s.RotateToken("nope"))
	status, text, err := do(t, "POST", s.URL+"/api/v1/agents/gpu-01/heartbeat", "{}")
	require.NoError(t, err)
	require.Equal(t, 401, status, text)
}

func TestAsAPlainHandler(t *testing.T) {
	t.Parallel()
	s := kittapitest.New(kittapitest.Config{})
	defer s.Close()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/version", nil))
	require.Equal(t, 200, w.Code)
	require.JSONEq(t, `{"api_version":"v1","name":"KITT","version":"1.7.0"}`, w.Body.String())
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{Package: []byte("0123456789")})
	digest := must(t, "GET", s.URL+"/api/v1/agent/package/sha256", "")
	require.Equal(t, "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882", digest["sha256"])
	require.Equal(t, "kitt_agent-1.7.0.tar.gz", digest["filename"])
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/agent/package", nil)
	require.NoError(t, err)
	req.Header.Set("Range", "bytes=4-")
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "456789", string(rest))
	require.Equal(t, http.StatusPartialContent, resp.StatusCode)
}

func TestACampaignRunsToItsEnd(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{CampaignPoll: time.Millisecond})
	id := register(t, s, "gpu-01")
	p := must(t, "POST", s.URL+"/api/v1/campaigns/", fmt.Sprintf(
		`{"name":"c","agent_id":%q,"config":{"models":[{"name":"a"},{"name":"b"}],"engines":[{"name":"vllm"}]}}`, id))["id"].(string)
	must(t, "POST", s.URL+"/api/v1/campaigns/"+p+"/launch", "")
	for i := range 2 {
		require.NoError(t, s.Wait(t.Context(), func() bool { return len(s.Tests()) == i+1 }))
		test := s.Tests()[i].ID
		must(t, "POST", s.URL+"/api/v1/agents/gpu-01/heartbeat", "{}")
		must(t, "POST", s.URL+"/api/v1/quicktest/"+test+"/status", `{"status":"completed"}`)
	}
	require.NoError(t, s.Wait(t.Context(), func() bool {
		return must(t, "GET", s.URL+"/api/v1/campaigns/"+p, "")["status"] == "completed"
	}))
	require.EqualValues(t, 2, must(t, "GET", s.URL+"/api/v1/campaigns/"+p, "")["succeeded"])
	require.EqualValues(t, 1, must(t, "GET", s.URL+"/api/v1/campaigns/", "")["total"])
}

func TestOnlyOneBeatGetsACommand(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	register(t, s, "gpu-01")
	_, _, err := s.Launch("gpu-01", "/m")
	require.NoError(t, err)
	got := make(chan int, 20)
	for range cap(got) {
		go func() {
			_, text, _ := do(t, "POST", s.URL+"/api/v1/agents/gpu-01/heartbeat", "{}")
			got <- strings.Count(text, "command_id")
		}()
	}
	sum := 0
	for range cap(got) {
		sum += <-got
	}
	require.Equal(t, 1, sum)
}

// BenchmarkLogPosts posts 2,000 lines of 64 bytes a request.
func BenchmarkLogPosts(b *testing.B) {
	s := start(b, kittapitest.Config{})
	register(b, s, "gpu-01")
	test, _, err := s.Launch("gpu-01", "/m")
	require.NoError(b, err)
	const lines = 2000
	body := `{"line":"` + strings.Repeat(strings.Repeat("x", 63)+`\n`, lines) + `"}`
	for b.Loop() {
		must(b, "POST", s.URL+"/api/v1/quicktest/"+test+"/logs", body)
	}
	b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkBeats beats for one of 10,000 agents.
func BenchmarkBeats(b *testing.B) {
	s := kittapitest.New(kittapitest.Config{})
	defer s.Close()
	send := func(path, body string) {
		r := httptest.NewRequest("POST", path, bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	for i := range 10_000 {
		send("/api/v1/agents/register", fmt.Sprintf(`{"name":"a%d","hostname":"h"}`, i))
	}
	for b.Loop() {
		send("/api/v1/agents/a4711/heartbeat", `{"status":"idle"}`)
	}
}

// TestRestore puts a test that has ended back: it is offered again, without its result.
func TestRestore(t *testing.T) {
	t.Parallel()
	s := start(t, kittapitest.Config{})
	agentID := register(t, s, "gpu-1")
	testID, commandID, err := s.Launch("gpu-1", "m")
	require.NoError(t, err)
	beat := s.URL + "/api/v1/agents/" + agentID + "/heartbeat"
	require.Contains(t, fmt.Sprint(must(t, http.MethodPost, beat, "{}")), commandID)
	for _, line := range []string{"one", "two"} {
		must(t, http.MethodPost, s.URL+"/api/v1/quicktest/"+testID+"/logs", `{"line":"`+line+`"}`)
	}
	must(t, http.MethodPost, s.URL+"/api/v1/agents/"+agentID+"/results", `{"command_id":"`+commandID+`","status":"completed","result_data":{"model":"m"}}`)
	must(t, http.MethodPost, s.URL+"/api/v1/quicktest/"+testID+"/status", `{"status":"completed"}`)
	require.Len(t, s.Results(), 1)

	s.Restore(testID, "dispatched", 1)
	row, _ := s.Test(testID)
	require.Equal(t, []string{"queued", "dispatched"}, row.History)
	require.Equal(t, []string{"one"}, s.Lines(testID))
	require.Empty(t, s.Results())
	require.Empty(t, s.Reports())
	require.NotContains(t, fmt.Sprint(must(t, http.MethodPost, beat, "{}")), commandID)
	s.Restore(testID, "queued", 0)
	require.Contains(t, fmt.Sprint(must(t, http.MethodPost, beat, "{}")), commandID)
	s.Restore("none", "queued", 0)
}
