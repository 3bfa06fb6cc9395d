package fleet_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
)

// Ten virtual agents register with a server, run one quick test each, and the
// server has all that they said.
func Example() {
	server, err := kittapitest.NewServer(kittapitest.Config{})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client, err := kittapi.New(kittapi.Config{URL: server.URL})
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	f, err := fleet.New(fleet.Config{
		Server: client,
		Dir:    dir,
		Groups: []fleet.Group{{Count: 10, Hardware: fleet.Hardware{Profile: "h100-8"}}},
		Registered: func(ctx context.Context, _, agentID string) error {
			_, err := client.Launch(ctx, kittapi.Launch{AgentID: agentID, Model: "Qwen/Qwen3-8B", Engine: "vllm"})
			return err
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for f.Stats().Ended() < 10 && ctx.Err() == nil {
		<-tick.C
	}
	stop()
	if err := <-done; err != nil {
		panic(err)
	}

	check, err := f.Check(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(f.Stats().JobsCompleted, "completed;", check.Lost, "lines lost")
	// Output: 10 completed; 0 lines lost
}
