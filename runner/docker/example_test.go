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

	// Jobs wait for an engine that does not answer.
	err = r.CheckStart(context.Background())
	fmt.Println(errors.Is(err, runner.ErrNotReady))
	// Output: true
}
