package process_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/runnertest"
)

func Example() {
	dir, err := os.MkdirTemp("", "job")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// A program that calls process.Supervise for its command "supervise" names
	// itself as the supervisor; then runs outlive it.
	r := process.New(process.Config{Command: kitt})
	job := runner.Job{ID: "a", Dir: dir, ResultsDir: dir, Model: "fake:lines=2", Engine: "ollama", Suite: "quick"}
	var out runnertest.Recorder
	result, err := r.Run(context.Background(), job, &out)
	fmt.Print(out.Text())
	fmt.Println(result.Runner, err)
	// Output:
	// line 0
	// line 1
	// process <nil>
}
