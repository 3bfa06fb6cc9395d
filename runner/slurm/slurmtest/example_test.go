package slurmtest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/kirizan/kitt-agent/runner/slurm/slurmtest"
)

// A test starts a cluster where Slurm is installed, breaks a part of it and closes it.
func ExampleStart() {
	fmt.Println(slurmtest.Controller, "and", slurmtest.Node("n1"))
	if slurmtest.Missing(slurmtest.Config{}) == nil {
		fmt.Fprintln(os.Stderr, breakNode(context.Background())) // a test requires nil
	}
	// Output:
	// slurmctld and slurmd n1
}

func breakNode(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "slurm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := slurmtest.Start(ctx, dir, slurmtest.Config{})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Kill(slurmtest.Node("n1"))
}
