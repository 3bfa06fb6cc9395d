// Command custom-runner runs a KITT agent whose benchmarks are not `kitt run`
// but a function of this program. It measures how fast this machine hashes, and
// reports that as a throughput.
//
//	go run ./examples/custom-runner -server https://server:8080
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/runner"
)

// hasher is a runner.Runner. A runner that is nothing more than that cannot be
// found again after a restart: its job fails then.
type hasher struct{ rounds int }

var _ runner.Runner = hasher{}

// Run hashes for a while, prints its progress, and reports the rate.
func (h hasher) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	result := runner.Result{Runner: "hasher", Started: time.Now()}
	stdout := runner.OutputWriter(out)
	block := make([]byte, 1<<20)
	for i := range h.rounds {
		if ctx.Err() != nil {
			return result, context.Cause(ctx) // cancelled, or the agent stops
		}
		sum := sha256.Sum256(block)
		copy(block, sum[:])
		fmt.Fprintf(stdout, "round %d of %d\n", i+1, h.rounds)
	}
	result.Ended = time.Now()
	perSecond := float64(h.rounds) / result.Ended.Sub(result.Started).Seconds()
	return result, runner.WriteReport(job, runner.Report{Tests: []runner.Test{
		{Name: "throughput", Metrics: map[string]float64{"avg_tps": perSecond}},
	}})
}

func main() {
	server := flag.String("server", "http://127.0.0.1:8080", "URL of the KITT server")
	name := flag.String("name", "hasher", "name of the agent at the server")
	dir := flag.String("dir", filepath.Join(os.TempDir(), "kitt-hasher"), "where jobs are kept")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *server, *name, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "custom-runner:", err)
		os.Exit(1)
	}
}

// run runs the agent until ctx is done.
func run(ctx context.Context, server, name, dir string) error {
	client, err := kittapi.New(kittapi.Config{URL: server, Token: agent.Secret(os.Getenv("KITT_TOKEN"))})
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Config{Name: name, Dir: dir, Server: client, Runner: hasher{rounds: 100}})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
