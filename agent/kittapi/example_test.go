package kittapi_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/heartbeat"
)

// A program that uses a KITT server without an agent.
func Example() {
	server, err := kittapitest.NewServer(kittapitest.Config{}) // instead of a real one
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client, err := kittapi.New(kittapi.Config{URL: server.URL, Token: "a-long-secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	registered, err := client.Register(ctx, agent.Registration{Name: "gpu-01", Port: 8090})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := client.Launch(ctx, kittapi.Launch{AgentID: registered.AgentID, Model: "/models/llama", Engine: "vllm"}); err != nil {
		fmt.Println(err)
		return
	}
	answer, err := client.Heartbeat(ctx, registered.AgentID, heartbeat.Beat{Status: heartbeat.StatusIdle})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Commands[0].Type, string(answer.Commands[0].Payload))
	// Output: run_test {"benchmark_name":"throughput","engine_mode":"docker","engine_name":"vllm","model_path":"/models/llama","profile_id":"","suite_name":"quick"}
}

// Result data is corrected before it is sent, whichever runner measured it.
func ExampleCleanResult() {
	clean, notes := kittapi.CleanResult(map[string]any{"model": "llama", "passed_count": nil, "results": nil})
	fmt.Println(clean)
	for _, note := range notes {
		fmt.Println(note)
	}
	// Output:
	// map[model:llama]
	// passed_count removed: it should be a number within 64 bits
	// results removed: it should be a list
}
