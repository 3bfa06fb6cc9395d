package results_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// An embedder runs a benchmark and reads its results from the agent's directory.
func Example() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	run, err := simulated.New(simulated.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &agenttest.Server{}
	a, err := agent.New(agent.Config{Name: "gpu-07", Dir: dir, Server: server, Runner: run})
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
	stop()
	<-done

	store := results.Open(dir)
	found, err := store.Find(context.Background(), "model=qwen,state=completed")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, summary := range found {
		r, err := store.Load(summary)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.Model, r.Engine, r.Suite, r.Verdict)
		fmt.Println(r.Headline.Name, r.Headline.Better, r.Metric(r.Headline.Name).Value > 0)
	}
	// Output:
	// qwen2.5:7b vllm quick not judged
	// throughput.avg_tps higher true
}
