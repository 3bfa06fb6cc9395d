package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/runner/docker/socketproxy"
	"github.com/kirizan/kitt-agent/runner/process"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// superviseCommand is the hidden command by which the agent starts the process
// that watches over a local benchmark and outlives the agent.
const superviseCommand = "supervise"

// localRuns returns how the local kitt command runs benchmarks: under a supervisor
// that is this program.
func localRuns() (process.Config, error) {
	exe, err := os.Executable()
	if err != nil {
		return process.Config{}, fmt.Errorf("find the agent's own program: %w", err)
	}
	return process.Config{Supervisor: []string{exe, superviseCommand}}, nil
}

// newSuperviseCommand returns `kitt-agent supervise`.
func newSuperviseCommand(*environment) *cobra.Command {
	return &cobra.Command{
		Use:     superviseCommand + " <directory>",
		Short:   "Watch over a local benchmark (used by the agent itself)",
		Example: "  kitt-agent supervise ~/.kitt/jobs/1111222233334444/process",
		Hidden:  true,
		Args:    exactly(1, "the directory of the run"),
		RunE: func(_ *cobra.Command, args []string) error {
			if code := process.Supervise(args[0]); code != exitOK {
				return &codedError{code: code}
			}
			return nil
		},
	}
}

// superviseContainerCommand is the hidden command that makes a static kitt-agent
// the program in front of a benchmark in its container.
const superviseContainerCommand = "supervise-container"

// newSuperviseContainerCommand returns `kitt-agent supervise-container`.
func newSuperviseContainerCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:                superviseContainerCommand,
		Short:              "Run a benchmark in its container (used by the agent itself)",
		Example:            "  kitt-agent supervise-container -dir /run/kitt -- kitt run",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := supervisor.Main(args, env.stdout); code != exitOK {
				return &codedError{code: code}
			}
			return nil
		},
	}
}

// socketProxyCommand is the hidden command that makes kitt-agent the process between a
// benchmark and the container engine, where there is no smaller program for that.
const socketProxyCommand = "socket-proxy"

// newSocketProxyCommand returns `kitt-agent socket-proxy`.
func newSocketProxyCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:                socketProxyCommand,
		Short:              "Serve the container engine to a benchmark (used by the agent itself)",
		Example:            "  kitt-agent socket-proxy -dir ~/.kitt/jobs/1111222233334444/proxy",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := socketproxy.Main(args, env.stdout); code != exitOK {
				return &codedError{code: code}
			}
			return nil
		},
	}
}
