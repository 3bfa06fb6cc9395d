package dockercheck_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/preflight"
	"github.com/kirizan/kitt-agent/preflight/dockercheck"
)

// The checks of the engine run together with the others. Python is needed only if
// there is no image to run jobs in.
func Example() {
	docker, err := dockercheck.New(dockercheck.Config{Image: "kitt:latest"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer docker.Close()

	checks := docker.All()
	checks = append(checks, preflight.Python(func(ctx context.Context) bool { return !docker.HasImage(ctx) }))
	for _, c := range checks {
		fmt.Println(c.Name(), c.Required())
	}
	// preflight.Run(ctx, checks, …) runs them.

	// Output:
	// docker true
	// docker gpu access true
	// kitt image false
	// docker disk false
	// control groups false
	// python true
}
