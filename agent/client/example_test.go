package client_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

// A program starts a benchmark on an agent and prints its log as it comes.
func ExampleClient_Follow() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	address := exampleAgent(ctx)

	c, err := client.New(client.Config{URL: address, Token: "secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Command(ctx, client.Command{TestID: "t1", Type: agent.TypeRunTest, Payload: map[string]string{
		"model_path": "qwen2.5:7b", "engine_name": "vllm", "suite_name": "quick",
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	end, err := c.Follow(ctx, "t1", func(e client.Event) error {
		_, err := fmt.Println(e.Line())
		return err
	})
	fmt.Println(end.Status, err)
	// Output:
	// Agent starting benchmark: throughput
	// Engine: vllm
	// Model: qwen2.5:7b
	// measuring
	// Warning: the benchmark wrote no metrics.json; there is no result to show
	// Benchmark completed
	// completed <nil>
}

// exampleAgent runs an agent until ctx is done and returns where it answers.
func exampleAgent(ctx context.Context) (address string) {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		panic(err)
	}
	a, err := agent.New(agent.Config{
		Name: "gpu-1", Dir: dir, Server: &agenttest.Server{}, Runner: &runnertest.Fake{Lines: []string{"measuring"}}, Token: "secret",
	})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(a.Handler())
	ended := make(chan struct{})
	go func() {
		_ = a.Run(ctx)
		close(ended)
	}()
	<-a.Ready()
	context.AfterFunc(ctx, func() {
		<-ended
		server.Close()
		os.RemoveAll(dir)
	})
	return server.URL
}
