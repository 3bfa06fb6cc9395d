// Command cluster runs a KITT agent on a login node, which submits each benchmark to a
// Slurm cluster.
//
//	go run ./examples/cluster -server https://server:8080 -dir /shared/kitt -partition h200 -gpus 8
//
// The program is its own wrapper: Slurm starts a copy of it on the node, with the word
// run-on-node, and it runs the benchmark there. Build it with CGO_ENABLED=0, so that it
// needs nothing of the node.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == slurm.NodeWord {
		os.Exit(slurm.RunOnNode(os.Args[2:], os.Stdout))
	}
	var o options
	flag.StringVar(&o.server, "server", "http://127.0.0.1:8080", "URL of the KITT server")
	flag.StringVar(&o.name, "name", "cluster", "name of the agent at the server")
	flag.StringVar(&o.dir, "dir", "", "where jobs are kept: a directory that all nodes see by the same path")
	flag.StringVar(&o.partition, "partition", "", "partition; empty for the default")
	flag.IntVar(&o.gpus, "gpus", 1, "GPUs of each job")
	flag.StringVar(&o.kitt, "kitt", "kitt", "the kitt command on the nodes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

type options struct {
	server, name, dir, partition, kitt string
	gpus                               int
	commands                           []string // see slurm.Config
}

func run(ctx context.Context, o options) error {
	cluster, err := slurm.New(slurm.Config{
		Owner: o.name, SharedDir: o.dir, Partition: o.partition, GPUs: o.gpus, Command: []string{o.kitt}, Commands: o.commands,
		Wrapper: func(context.Context) (program, argument string, err error) {
			exe, err := os.Executable()
			if err != nil {
				return "", "", err
			}
			program, err = slurm.Install(o.dir, exe)
			return program, slurm.NodeWord, err
		},
	})
	if err != nil {
		return err
	}
	server, err := kittapi.New(kittapi.Config{URL: o.server})
	if err != nil {
		return err
	}
	// Slurm keeps jobs from each other, so many may be submitted at once.
	a, err := agent.New(agent.Config{Name: o.name, Dir: o.dir, Server: server, Runner: cluster, MaxConcurrentJobs: 64})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
