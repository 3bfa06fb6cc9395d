// Command embed runs a KITT agent inside a program of one's own: the agent, a
// client of the server, and the runner that plays benchmarks without hardware.
//
//	go run ./examples/embed -server https://server:8080
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

func main() {
	server := flag.String("server", "http://127.0.0.1:8080", "URL of the KITT server")
	name := flag.String("name", "embedded", "name of the agent at the server")
	dir := flag.String("dir", filepath.Join(os.TempDir(), "kitt-embed"), "where jobs are kept")
	speed := flag.Float64("speed", 1, "factor on the delays of the simulated benchmarks; 0 for none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *server, *name, *dir, *speed); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// run runs the agent until ctx is done.
func run(ctx context.Context, server, name, dir string, speed float64) error {
	client, err := kittapi.New(kittapi.Config{URL: server, Token: agent.Secret(os.Getenv("KITT_TOKEN"))})
	if err != nil {
		return err
	}
	benchmarks, err := simulated.New(simulated.Config{Speed: speed})
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{
		Name:   name,
		Dir:    dir,
		Server: client,
		Runner: benchmarks,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
