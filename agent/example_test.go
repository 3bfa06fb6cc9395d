package agent_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/runner"
)

// greeter is a Runner of one's own: its benchmark prints a line.
type greeter struct{}

func (greeter) Run(_ context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	fmt.Fprintln(runner.OutputWriter(out), "measuring", job.Model)
	return runner.Result{Runner: "greeter"}, nil
}

// An embedder gives the agent its own Runner and runs it next to its own work.
// A real one would use kittapi.New for the Server.
func ExampleAgent_Run() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server := &agenttest.Server{}
	a, err := agent.New(agent.Config{Name: "gpu-07", Dir: dir, Server: server, Runner: greeter{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	test := server.Launch("qwen2.5:7b")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()

	if err := server.Wait(ctx, test, "completed"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(server.Lines(test)[3])
	stop()
	fmt.Println(<-done)
	// Output:
	// measuring qwen2.5:7b
	// <nil>
}
