package agent_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
)

// TestFollowersAreLimited has two readers follow a job that waits, where one may.
func TestFollowersAreLimited(t *testing.T) {
	t.Parallel()
	a, url := serveAgent(t, agent.Config{Runner: &play{run: hangs}, MaxFollowers: 1})
	for _, id := range []string{"first", "second"} {
		_, err := a.Submit(agent.Benchmark{ID: id, Model: "m"})
		require.NoError(t, err)
	}
	follow := func(ctx context.Context) *http.Response {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/logs/first", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+apiToken)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		return resp
	}
	ctx, leave := context.WithCancel(t.Context())
	first := follow(ctx)
	require.Equal(t, http.StatusOK, first.StatusCode)

	second := follow(t.Context())
	require.Equal(t, http.StatusServiceUnavailable, second.StatusCode)
	require.Equal(t, "10", second.Header.Get("Retry-After"))
	require.NoError(t, second.Body.Close())

	leave()
	require.NoError(t, first.Body.Close())
	require.Eventually(t, func() bool { return a.Status().ActiveStreams == 0 }, 10*time.Second, 5*time.Millisecond)
	third, stop := context.WithCancel(t.Context())
	defer stop()
	resp := follow(third)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
}
