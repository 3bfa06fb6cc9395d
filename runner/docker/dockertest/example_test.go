package dockertest_test

import (
	"context"
	"fmt"

	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// A test that needs an engine looks for one, and says so when it skips.
func ExampleFind() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no engine answers a caller that has gone
	if _, err := dockertest.Find(ctx); err != nil {
		fmt.Println("skipped: no Docker engine answers")
	}
	// Output: skipped: no Docker engine answers
}
