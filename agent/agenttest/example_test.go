package agenttest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A server in memory and a scripted runner are all that a test of an agent
// needs.
func ExampleServer() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server := &agenttest.Server{}
	run := &runnertest.Fake{Lines: []string{"measuring"}}
	a, err := agent.New(agent.Config{Name: "gpu-01", Dir: dir, Server: server, Runner: run})
	if err != nil {
		fmt.Println(err)
		return
	}
	test := server.Launch("qwen2.5:7b") // in time for the first heartbeat
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	fmt.Println(server.WaitEnded(ctx, test))
	fmt.Println(server.History(test))
	stop()
	fmt.Println(<-done)
	// Output:
	// <nil>
	// [queued dispatched running completed]
	// <nil>
}
