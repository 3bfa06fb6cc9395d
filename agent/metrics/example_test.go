package metrics_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/metrics"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// The agent's own API serves the metrics.
func Example() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server := &agenttest.Server{}
	m := metrics.New()
	a, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: dir, Server: server, Metrics: m.Handler(),
		Runner: &runnertest.Fake{Lines: []string{"measuring"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	test := server.Launch("qwen2.5:7b")
	ctx, stop := context.WithCancel(context.Background())
	events := a.Events(ctx) // before Run, so that none is missed
	counted := make(chan struct{})
	go func() {
		m.Follow(a, events)
		close(counted)
	}()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	fmt.Println(server.WaitEnded(ctx, test))

	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://127.0.0.1/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "kitt_agent_server_registered") {
			fmt.Print(line)
		}
	}
	stop()
	<-counted
	fmt.Println(<-done)
	// Output:
	// <nil>
	// kitt_agent_server_registered 1
	// <nil>
}
