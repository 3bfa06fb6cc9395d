// Command kitt-supervise runs a benchmark with its output on a file and writes
// down how it ended. It is the entrypoint of a job's container: a small static
// program that needs nothing of the image. Package supervisor describes it.
//
// With run-on-node as its first argument it is what Slurm starts on a node; see
// slurm.RunOnNode.
package main

import (
	"os"

	"github.com/kirizan/kitt-agent/runner/slurm"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == slurm.NodeWord {
		os.Exit(slurm.RunOnNode(os.Args[2:], os.Stdout))
	}
	os.Exit(supervisor.Main(os.Args[1:], os.Stdout))
}
