// Command kitt-supervise runs a benchmark with its output on a file and writes
// down how it ended. It is the entrypoint of a job's container: a small static
// program that needs nothing of the image. Package supervisor describes it.
package main

import (
	"os"

	"github.com/kirizan/kitt-agent/runner/supervisor"
)

func main() { os.Exit(supervisor.Main(os.Args[1:], os.Stdout)) }
