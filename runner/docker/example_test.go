package docker_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/docker"
)

func Example() {
	r, err := docker.New(docker.Config{Host: "unix:///nowhere/docker.sock"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	// Without an engine another runner may have the job; see runner.NewFallback.
	err = r.Ping(context.Background())
	fmt.Println(errors.Is(err, runner.ErrUnavailable))
	// Output: true
}
