// Command fleet load-tests a KITT server with virtual agents: they register, run
// one simulated quick test each, and every line of every log is then held against
// what the server has. Without a server it starts one of its own.
//
//	go run ./examples/fleet -agents 100
//	go run ./examples/fleet -agents 20 -server http://127.0.0.1:8080 -in-flight 1
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/fleet"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func main() {
	server := flag.String("server", "", "URL of the KITT server; none starts one in this process")
	agents := flag.Int("agents", 20, "how many agents, of two kinds")
	speed := flag.Float64("speed", 0, "factor on the delays of the simulated benchmarks; 0 for none")
	inFlight := flag.Int("in-flight", fleet.DefaultMaxInFlight, "requests under way at once; 1 for KITT 1.7")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *server, *agents, *speed, *inFlight); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

// run runs the fleet until each agent's test has ended, and checks what came of
// it.
func run(ctx context.Context, out io.Writer, url string, agents int, speed float64, inFlight int) (err error) {
	if url == "" {
		own, err := kittapitest.NewServer(kittapitest.Config{})
		if err != nil {
			return err
		}
		defer own.Close()
		url = own.URL
	}
	client, err := kittapi.New(kittapi.Config{URL: url, Token: agent.Secret(os.Getenv("KITT_TOKEN"))})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kitt-fleet-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	f, err := fleet.New(fleet.Config{
		Server:      client,
		Dir:         dir,
		Speed:       speed,
		MaxInFlight: inFlight,
		// A tenth of the agents fail in mid-benchmark.
		Groups: []fleet.Group{
			{Count: agents - agents/10, Hardware: fleet.Hardware{Profile: "h100-8"}},
			{Count: agents / 10, Name: "flaky", Hardware: fleet.Hardware{Profile: "l4-1"}, Scenario: &simulated.Scenario{FailAt: "throughput"}},
		},
		// Launched before the first heartbeat, the test comes with its answer.
		Registered: func(ctx context.Context, _, agentID string) error {
			_, err := client.Launch(ctx, kittapi.Launch{AgentID: agentID, Model: "Qwen/Qwen3-8B", Engine: "vllm"})
			return err
		},
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, 10*time.Minute)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	_ = f.WaitEnded(ctx, int64(agents)) // Stats says how far it came
	stop()
	if err := <-done; err != nil {
		return err
	}

	s := f.Stats()
	fmt.Fprintf(out, "%d agents: %d tests completed, %d failed\n", s.Agents, s.JobsCompleted, s.JobsFailed)
	fmt.Fprintf(out, "%d requests, half of them within %s, 99%% within %s\n", s.Requests, s.LatencyP50, s.LatencyP99)
	check, err := f.Check(context.Background())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d lines, %d lost\n", check.Lines, check.Lost)
	switch {
	case s.Ended() < int64(agents):
		return fmt.Errorf("%d tests have not ended", int64(agents)-s.Ended())
	case !check.OK():
		return fmt.Errorf("the server differs: %v", check.Faults)
	}
	return nil
}
