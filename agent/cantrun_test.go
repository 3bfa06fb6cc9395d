package agent_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/runner"
)

// checked is a runner that knows that it can run nothing.
type checked struct{ play }

func (*checked) Check() error {
	return &runner.Error{Class: runner.ClassUnavailable, Text: "there is nothing to run in containers", Err: runner.ErrUnavailable}
}

// TestWhatCantRunIsRefused has a runner that knows beforehand that it can't run a
// job: a caller hears so at once, and the server's test fails with that.
func TestWhatCantRunIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, run := &agenttest.Server{}, &checked{}
		a, stop := start(t, agent.Config{Server: srv, Runner: run})
		defer stop()
		<-a.Ready()
		_, err := a.Submit(agent.Benchmark{ID: "c1", TestID: "t1", Model: "/models/m", Engine: "ollama"})
		require.ErrorIs(t, err, runner.ErrUnavailable)
		require.Empty(t, a.Jobs(), "it was not accepted")

		id := srv.Launch("/models/llama")
		require.NoError(t, srv.WaitEnded(within(t, time.Minute), id))
		require.Equal(t, reporter.Failed, srv.Results()[0].Status)
		require.Contains(t, fmt.Sprint(srv.Results()[0]), "there is nothing to run in containers")
		require.Empty(t, run.ran())
	})
}
