// Command kitt-socket-proxy serves the container engine's API to one benchmark, as far
// as a policy allows. Package socketproxy describes it.
package main

import (
	"os"

	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
)

func main() { os.Exit(socketproxy.Main(os.Args[1:], os.Stdout)) }
