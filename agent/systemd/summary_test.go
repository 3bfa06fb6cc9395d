package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	registered := agent.ServerStatus{Registered: true}
	running := agent.JobStatus{State: agent.StateRunning, Type: agent.TypeRunTest, Model: "org/m\x1b[31m"}
	waiting := agent.JobStatus{State: agent.StateAccepted, Type: agent.TypeRunTest}
	for want, s := range map[string]agent.Status{
		"idle; not registered yet":                      {},
		"idle; registered":                              {Server: registered},
		"running: run_test org/m\ufffd[31m; registered": {Server: registered, Jobs: []agent.JobStatus{running}},
		"running: run_test org/m\ufffd[31m, stopping once it has ended, 2 waiting; registered": {
			Server: registered, Draining: true, Jobs: []agent.JobStatus{running, waiting, waiting}},
		"idle; server not reached: connection refused":       {Server: agent.ServerStatus{LastError: "connection refused"}},
		"idle; server refuses this agent: wrong token\ufffd": {Server: agent.ServerStatus{Refusal: "wrong token\n"}},
	} {
		require.Equal(t, want, summary(s))
	}
}
