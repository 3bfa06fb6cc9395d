package kittapitest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func serve(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close(), "closing twice is fine")
	})
	return s
}

// ask makes a request and returns the status, 0 if there was no answer.
func ask(t *testing.T, ctx context.Context, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var m map[string]any
	_ = json.Unmarshal(text, &m) // a page is none
	return resp.StatusCode, m
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	s.AddAgent("gpu-01")
	id, _, err := s.Launch("gpu-01", "m")
	require.NoError(t, err)
	log := s.URL + "/api/v1/quicktest/" + id + "/logs"
	post := func(f Fault, line string) int {
		s.SetFault(func(*http.Request) Fault { return f })
		defer s.SetFault(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		status, _ := ask(t, ctx, "POST", log, `{"line":"`+line+`"}`)
		return status
	}
	require.Equal(t, 200, post(Fault{}, "one"))
	require.Equal(t, 0, post(Fault{Reset: true}, "reset"))
	require.Equal(t, 502, post(Fault{Status: 502}, "bad gateway"))
	require.Equal(t, 0, post(Fault{Hang: true}, "hang"))
	require.Equal(t, 0, post(Fault{CutAnswer: true}, "cut"))
	require.Equal(t, 200, post(Fault{Delay: time.Millisecond}, "late"))
	require.Equal(t, []string{"one", "cut", "late"}, s.Rows(id), "an answer that was cut was carried out")
	require.Equal(t, 3, s.Requests()["POST /api/v1/quicktest/{id}/logs"])
}

func TestOfflineIsReckonedWhenSomebodyLooks(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	start := time.Now()
	now.Store(&start)
	s := serve(t, Config{Now: func() time.Time { return *now.Load() }})
	status, _ := ask(t, t.Context(), "POST", s.URL+"/api/v1/agents/register", `{"name":"a","hostname":"h"}`)
	require.Equal(t, 201, status)
	look := func(after time.Duration) string {
		at := start.Add(after)
		now.Store(&at)
		_, list := ask(t, t.Context(), "GET", s.URL+"/api/v1/agents/", "")
		return list["items"].([]any)[0].(map[string]any)["status"].(string)
	}
	require.Equal(t, "online", look(88*time.Second))
	require.Equal(t, "offline", look(92*time.Second))
	status, _ = ask(t, t.Context(), "POST", s.URL+"/api/v1/agents/a/heartbeat", `{"status":"idle"}`)
	require.Equal(t, 200, status)
	require.Equal(t, "idle", look(93*time.Second), "a beat undoes it")
	require.Equal(t, 1, s.Beats("a"))
}

func TestWaitingSaysWhatBecameOfTheTest(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	s.AddAgent("a")
	id, _, err := s.Launch("a", "m")
	require.NoError(t, err)
	status, _ := ask(t, t.Context(), "POST", s.URL+"/api/v1/quicktest/"+id+"/logs", `{"line":"Loading model"}`)
	require.Equal(t, 200, status)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.WaitForStatus(ctx, id, "completed")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "is queued, not completed")
	require.ErrorContains(t, err, "Loading model")
	require.ErrorContains(t, s.WaitForAgent(ctx, "nobody"), "has not registered")
	require.ErrorContains(t, s.WaitForEnd(ctx, "nope"), "there is no test")
	s.SetStatus(id, "failed", "Cancelled by user")
	require.NoError(t, s.WaitForEnd(t.Context(), id))
	row, ok := s.Test(id)
	require.True(t, ok)
	require.Equal(t, []string{"queued", "failed"}, row.History)
	require.Equal(t, "Cancelled by user", row.Error)
}

func TestEventsAreStreamed(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{})
	s.AddAgent("a")
	id, _, err := s.Launch("a", "m")
	require.NoError(t, err)
	other, _, err := s.Launch("a", "m")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/api/v1/events/stream/"+id, nil)
	require.NoError(t, err)
	// The head comes with the first event, so events are made until it has.
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			s.SetStatus(other, "running", "")
			s.SetStatus(id, "running", "")
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	name, err := in.ReadString('\n')
	require.NoError(t, err)
	data, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "event: status\n", name)
	require.JSONEq(t, `{"status":"running","test_id":"`+id+`"}`, strings.TrimPrefix(data, "data: "))
	close(stop)
	<-done
}

func TestLoneSurrogatesAreFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`"plain"`:             false,
		`"\ud83d\ude00 pair"`: false,
		`"\ud83d lone"`:       true,
		`"\ude00 lone"`:       true,
		`"\ud83d\ud83d"`:      true,
		`"\\ud83d no escape"`: false,
		`"\ud83d\n"`:          true,
		`"\u0041"`:            false,
		`"\ud83d`:             true,
	} {
		require.Equal(t, want, loneSurrogate([]byte(text)), text)
	}
}
