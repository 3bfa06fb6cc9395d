package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const rootHelp = `kitt-agent runs benchmark jobs of a KITT server on this machine.

Settings come from flags, from environment variables (KITT_SERVER, KITT_TOKEN,
KITT_NAME, KITT_PORT and others: see docs/settings.md), from agent.yaml and from
defaults, in that order. The agent's files are in ~/.kitt, or where KITT_HOME says.

Exit codes: 0 done, 1 failed, 2 usage error, 3 the agent is not running, 4 it runs but
something keeps it from its work or soon will, 5 and 6 what results compare found, and 100 if
update --check finds a newer version.`

// newRootCommand returns kitt-agent with all its commands.
func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "kitt-agent",
		Short: "Run benchmark jobs of a KITT server on this machine",
		Long:  rootHelp,
		Example: `  kitt-agent demo
  kitt-agent init --server https://server:8080 --token-file token
  kitt-agent start
  kitt-agent status
  kitt-agent logs 1111222233334444 -f`,
		Version:       thisBuild().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return noCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().StringVar(&env.configPath, "config", "", "settings `file` (default ~/.kitt/agent.yaml)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(cmd.CommandPath()+" --help", "%s", err)
	})
	root.AddCommand(
		newDemoCommand(env),
		newSimulateCommand(env),
		newInitCommand(env),
		newStartCommand(env),
		newServiceCommand(env),
		newStopCommand(env),
		newStatusCommand(env),
		newHeartbeatCommand(env),
		newLogsCommand(env),
		newModelsCommand(env),
		newEnginesCommand(env),
		newPolicyCommand(env),
		newCertsCommand(env),
		newTestCommand(env),
		newResultsCommand(env),
		newHardwareCommand(env),
		newGPUsCommand(env),
		newPreflightCommand(env),
		newDoctorCommand(env),
		newNotifyCommand(env),
		newBuildCommand(env),
		newUpdateCommand(env),
		newVersionCommand(env),
		newSuperviseCommand(env),
		newSuperviseContainerCommand(env),
		newSocketProxyCommand(env),
		newRunOnNodeCommand(env),
		newFetchModelCommand(env),
		newManCommand(env),
	)
	return root
}

// addStandardCommands adds cobra's own commands to root, whose output is set.
// Left to themselves they answer a word that they don't know with a page of help
// and success.
func addStandardCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				topic, rest, err := root.Find(args)
				if err != nil || len(rest) > 0 {
					return noCommand(topic, rest[0])
				}
				return nil
			}
		case "completion":
			shells := slices.Clone(cmd.Commands())
			cmd.RemoveCommand(shells...)
			group(cmd, shells...)
		}
	}
}

// noCommand is the error of a word that names none of parent's commands.
func noCommand(parent *cobra.Command, word string) error {
	parent.SuggestionsMinimumDistance = 2
	text := "there is no command " + strings.TrimPrefix(parent.CommandPath()+" ", "kitt-agent ") + quote(word)
	if near := parent.SuggestionsFor(word); len(near) > 0 {
		text += "; did you mean " + near[0] + "?"
	}
	return usageError(parent.CommandPath()+" --help", "%s", text)
}

// group makes cmd the parent of commands, which does nothing by itself.
func group(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	help := "kitt-agent " + cmd.Use + " --help"
	cmd.AddCommand(children...)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return noCommand(cmd, args[0])
		}
		var names []string
		for _, child := range children {
			names = append(names, child.Name())
		}
		last := len(names) - 1
		return usageError(help, "%s or %s is missing", strings.Join(names[:last], ", "), names[last])
	}
	// What cmd is called with is always wrong; without this cobra would not look.
	cmd.RunE = func(*cobra.Command, []string) error { return nil }
	return cmd
}

// exactly returns a check that a command has n arguments, which are called what.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		example := cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name())
		switch {
		case len(args) < n:
			return usageError(example, "%s is missing", what)
		case len(args) > n:
			return usageError(example, "too many arguments: %s", quote(args[n]))
		}
		return nil
	}
}

// atMost returns a check that a command has no more than n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError(cmd.CommandPath()+strings.TrimPrefix(cmd.Use, cmd.Name()), "too many arguments: %s", quote(args[n]))
		}
		return nil
	}
}
