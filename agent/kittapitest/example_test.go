package kittapitest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A whole benchmark over real HTTP: a control plane, an agent, a simulated run.
func ExampleNewServer() {
	if err := campaign(); err != nil {
		fmt.Println(err)
	}
	// Output: completed, with 1 result
}

func campaign() error {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	if err != nil {
		return err
	}
	defer server.Close()
	server.AddAgent("gpu-01")
	test, _, err := server.Launch("gpu-01", "qwen2.5:7b")
	if err != nil {
		return err
	}

	client, err := kittapi.New(kittapi.Config{URL: server.URL})
	if err != nil {
		return err
	}
	benchmarks, err := simulated.New(simulated.Config{})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := agent.New(agent.Config{Name: "gpu-01", Dir: dir, Server: client, Runner: benchmarks})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	err = server.WaitForEnd(ctx, test)
	stop()
	if ended := <-done; ended != nil || err != nil {
		return fmt.Errorf("%v, %v", err, ended)
	}
	row, _ := server.Test(test)
	fmt.Printf("%s, with %d result\n", row.Status, len(server.Results()))
	return nil
}
