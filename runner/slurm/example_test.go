package slurm_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

// An embedder's own program is the wrapper: started with the word that Wrapper
// returns, its main calls RunOnNode.
func ExampleNew() {
	_, err := slurm.New(slurm.Config{
		Owner:     "gpu-1",
		SharedDir: "/shared/kitt",
		Wrapper: func(context.Context) (program, argument string, err error) {
			return "/shared/kitt/bin/myprogram", "run-on-node", nil
		},
		Partition: "h200", GPUs: 8,
		Args: []string{"--mem=200G", "--requeue"},
	})
	text, _, _ := strings.Cut(err.Error(), ";")
	fmt.Println(text)
	// Output:
	// slurm: Args: "--requeue" is not an option that may be added
}

// A template of words says how a node runs kitt. No shell reads it.
func ExampleCommand() {
	template := []string{"apptainer", "exec", "--nv", "--bind", "{results}", "/shared/kitt.sif", "kitt", "{args}"}
	job := runner.Job{ID: "1", Model: "/models/qwen", Engine: "vllm", Suite: "quick", ResultsDir: "/shared/jobs/1/results"}
	fmt.Println(strings.Join(slurm.Command(template, job), " "))
	// Output:
	// apptainer exec --nv --bind /shared/jobs/1/results /shared/kitt.sif kitt run -m /models/qwen -e vllm -s quick -o /shared/jobs/1/results
}
