package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newHeartbeatCommand returns `kitt-agent heartbeat`.
func newHeartbeatCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "heartbeat",
		Short: "Have the agent send its server a heartbeat now",
		Long: `Have the agent on this machine send its server a heartbeat now, and wait for the answer.

A test that was launched on the server reaches the agent with its next heartbeat, and so
does a changed setting. Without this command that takes up to the heartbeat interval,
and at least a minute while a benchmark runs.`,
		Example: "  kitt-agent heartbeat",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, c, err := env.agentClient()
			if err != nil {
				return err
			}
			id, err := c.Heartbeat(cmd.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.stdout, "the server accepted the heartbeat of agent %s\n", printable(id))
			return err
		},
	}
}
