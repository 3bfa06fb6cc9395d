// Package harness shows how tests of a server, a page or a scheduler are
// built on the module's fakes. docs/harness.md walks through it.
package harness_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/runner/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startAgent runs a whole agent against the server at url until the test ends.
// A nil transport is the network's.
func startAgent(t *testing.T, url string, transport http.RoundTripper, cfg agent.Config) {
	t.Helper()
	server, err := kittapi.New(kittapi.Config{URL: url, Transport: transport})
	require.NoError(t, err)
	cfg.Server, cfg.Dir = server, t.TempDir()
	cfg.Engines = engine.ReadOnly{} // none, whatever this machine has
	a, err := agent.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// within returns a context for one wait of a test, so that what never comes
// fails the test, and says why, long before go test loses patience.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
