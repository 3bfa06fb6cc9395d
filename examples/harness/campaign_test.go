package harness_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A campaign of a dozen benchmarks, each with its real delays, its heartbeats
// and the server's polls: minutes on end, which pass in less than a second.
func TestAWholeCampaign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, err := kittapitest.NewInMemory(kittapitest.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Close()) })
		benchmarks, err := simulated.New(simulated.Config{Speed: 1})
		require.NoError(t, err)
		startAgent(t, server.URL, server.Transport(), agent.Config{Name: "gpu-01", Runner: benchmarks})
		require.NoError(t, server.WaitForAgent(within(t, time.Hour), "gpu-01"))

		began := time.Now()
		campaign := launchCampaign(t, server, `{
			"name": "nightly", "agent_id": %q,
			"config": {
				"models": [{"name": "Llama-3.1-8B"}, {"name": "Qwen2.5-7B"}, {"name": "gemma-2-9b-it"}],
				"engines": [{"name": "vllm"}, {"name": "llama_cpp"}],
				"benchmarks": ["throughput", "latency"]
			}
		}`)
		row := campaign.waitForEnd(t)
		require.Contains(t, row, `"succeeded":12`)
		require.Len(t, server.Results(), 12)
		for _, test := range server.Tests() {
			require.Equal(t, []string{"queued", "dispatched", "running", "completed"}, test.History)
		}
		require.Greater(t, time.Since(began), 5*time.Minute)
	})
}

// A campaignHandle is a campaign that was launched over the server's API.
type campaignHandle struct {
	server *kittapitest.Server
	client *http.Client
	id     string
}

func launchCampaign(t *testing.T, server *kittapitest.Server, form string) campaignHandle {
	t.Helper()
	a, _ := server.Agent("gpu-01")
	c := campaignHandle{server: server, client: &http.Client{Transport: server.Transport()}}
	created := c.post(t, "", fmt.Sprintf(form, a.ID))
	_, id, _ := strings.Cut(created, `"id":"`)
	c.id, _, _ = strings.Cut(id, `"`)
	c.post(t, c.id+"/launch", "")
	return c
}

func (c campaignHandle) post(t *testing.T, path, body string) string {
	t.Helper()
	resp, err := c.client.Post(c.server.URL+"/api/v1/campaigns/"+path, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	return read(t, resp)
}

// waitForEnd returns the campaign's row once it has ended.
func (c campaignHandle) waitForEnd(t *testing.T) string {
	t.Helper()
	for range 24 * 60 { // minutes
		resp, err := c.client.Get(c.server.URL + "/api/v1/campaigns/" + c.id)
		require.NoError(t, err)
		if row := read(t, resp); strings.Contains(row, `"status":"completed"`) {
			return row
		}
		<-time.After(time.Minute)
	}
	require.FailNow(t, "the campaign did not end within a day")
	return ""
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Less(t, resp.StatusCode, 300, "%s", text)
	return string(text)
}
