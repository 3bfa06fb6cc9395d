package standard_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/agenttest"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/storage"
)

// An agent of the usual parts runs a benchmark, here one that a script plays.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	kitt := filepath.Join(dir, "kitt")
	if err := os.WriteFile(kitt, []byte("#!/bin/sh\necho measuring\n"), 0o700); err != nil {
		fmt.Println(err)
		return
	}
	parts, err := standard.New(standard.Config{
		Name:    "gpu-1",
		Kind:    standard.Process,
		Process: process.Config{Command: kitt},
		Storage: storage.Config{Settings: storage.Settings{Dir: filepath.Join(dir, "models")}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer parts.Close()
	server := &agenttest.Server{}
	a, err := agent.New(agent.Config{
		Name: "gpu-1", Dir: dir, Server: server, Runner: parts.Runner, Storage: parts.Storage, Detector: parts.Detector,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	test := server.Launch("qwen2.5:7b") // in time for the first heartbeat
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	fmt.Println(server.WaitEnded(ctx, test), server.History(test))
	stop()
	fmt.Println(<-ended)
	// Output:
	// <nil> [queued dispatched running completed]
	// <nil>
}
