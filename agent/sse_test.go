package agent_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// followJob reads a job's log over the agent's API to its end.
func followJob(t *testing.T, url, id string) (lines []string, end map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/logs/"+id, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+apiToken)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	in := bufio.NewScanner(resp.Body)
	name := ""
	for in.Scan() {
		key, value, _ := strings.Cut(in.Text(), ": ")
		switch key {
		case "event":
			name = value
		case "data":
			var data map[string]string
			require.NoError(t, json.Unmarshal([]byte(value), &data))
			if name == "end" {
				end = data
			} else {
				lines = append(lines, data["line"])
			}
		}
	}
	require.NoError(t, in.Err())
	return lines, end
}

func TestTheLogStreamsWhileTheJobRunsAndIsThereAfterwards(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	srv := &agenttest.Server{}
	dir := t.TempDir()
	_, url := serveAgent(t, agent.Config{Server: srv, Dir: dir, Runner: &play{
		run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
			if _, err := runner.OutputWriter(out).Write([]byte("line 0\nhalf")); err != nil {
				return runner.Result{}, err
			}
			<-goOn
			return prints(3, 0)(ctx, job, out)
		},
	}})
	status, _ := call(t, "POST", url+"/api/commands", apiToken, `{"type":"run_test","command_id":"c1","payload":{"model_path":"m"}}`)
	require.Equal(t, http.StatusAccepted, status)
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
	live, end := followJob(t, url, "c1")
	require.Equal(t, []string{"line 0", "halfline 0", "line 1", "line 2"}, live[3:7])
	require.Equal(t, map[string]string{"command_id": "c1", "status": "completed", "error": ""}, end)

	// Once its report is accepted the log is compressed, and still served.
	require.Eventually(t, func() bool {
		packed, err := filepath.Glob(filepath.Join(dir, "jobs", "c1", "log.zst"))
		return err == nil && len(packed) == 1
	}, 10*time.Second, 5*time.Millisecond)
	later, again := followJob(t, url, "c1")
	require.Equal(t, live, later)
	require.Equal(t, end, again)
}

func TestTheLogOfAJobThatWaitsStreamsWhenItsTurnComes(t *testing.T) {
	t.Parallel()
	a, url := serveAgent(t, agent.Config{Runner: &play{run: func(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
		if job.ID == "first" {
			return hangs(ctx, job, out)
		}
		return prints(2, 0)(ctx, job, out)
	}}})
	for _, id := range []string{"first", "second"} {
		_, err := a.Submit(agent.Benchmark{ID: id, Model: "m"})
		require.NoError(t, err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = a.Cancel(context.WithoutCancel(t.Context()), "first", "user") })
	lines, end := followJob(t, url, "second")
	require.Equal(t, numbered(2), benchmarkLines(lines))
	require.Equal(t, "completed", end["status"])
}
