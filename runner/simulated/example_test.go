package simulated_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// A run on a machine with one H100, at once.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	sim, err := simulated.New(simulated.Config{
		Hardware: simulated.Hardware{GPU: simulated.GPU{Model: "NVIDIA H100 80GB HBM3"}, GPUs: 1},
		Seed:     42,
	})
	if err != nil {
		log.Fatal(err)
	}
	var out strings.Builder
	job := runner.Job{ID: "1f2e3d4c", Dir: dir, ResultsDir: dir, Model: "Llama-3.1-8B", Engine: "vllm", Suite: "quick"}
	if _, err := sim.Run(context.Background(), job, runner.NewOutput(&out)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(out.String(), "Status: PASSED"))
	_, err = os.Stat(filepath.Join(dir, "metrics.json"))
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// A run that fails in its second benchmark, with a status that a test wants
// to see.
func ExampleParseScenario() {
	scenario, err := simulated.ParseScenario("fail-at=latency, exit=3")
	if err != nil {
		log.Fatal(err)
	}
	sim, err := simulated.New(simulated.Config{Scenario: scenario})
	if err != nil {
		log.Fatal(err)
	}
	job := runner.Job{ID: "a", ResultsDir: os.TempDir(), Model: "Llama-3.1-8B", Engine: "vllm", Suite: "performance"}
	_, err = sim.Run(context.Background(), job, runner.NewOutput(new(strings.Builder)))
	exit, ok := errors.AsType[*runner.ExitError](err)
	fmt.Println(ok, exit.Code)
	// Output: true 3
}
