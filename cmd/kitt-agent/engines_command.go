package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// newEnginesCommand returns `kitt-agent engines`.
func newEnginesCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:   "engines",
		Short: "List, install, start and stop the engines of this machine",
		Long: `List, install, start and stop the inference engines that are installed on this machine
itself, apart from those in containers: ollama, llama_cpp and vllm.

A started engine belongs to the agent, but goes on when the agent stops. While it runs
it holds the GPUs: engines.on_conflict in agent.yaml says what becomes of benchmarks.`,
		Example: "  kitt-agent engines list\n  kitt-agent engines start llama_cpp --model /models/m.gguf --set n_ctx=8192\n  kitt-agent engines logs llama_cpp --follow\n  kitt-agent engines stop llama_cpp",
	}, newEnginesListCommand(env), newEnginesInstallCommand(env), newEnginesStartCommand(env), newEnginesStopCommand(env), newEnginesLogsCommand(env))
}

// newEnginesListCommand returns `kitt-agent engines list`.
func newEnginesListCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the engines, whether they run, and where",
		Example: "  kitt-agent engines list\n  kitt-agent engines list --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, c, err := env.agentClient()
			if err != nil {
				return err
			}
			engines, err := listEngines(cmd.Context(), cfg, c)
			if err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(engines)
			}
			return writeEngines(env.stdout, engines)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// listEngines asks the agent for its engines, and looks for them itself if none runs.
func listEngines(ctx context.Context, cfg *config.Config, c *client.Client) ([]heartbeat.Engine, error) {
	text, err := c.Engines(ctx)
	if errors.Is(err, client.ErrNotRunning) {
		return findEngines(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	var answer struct {
		Engines []heartbeat.Engine `json:"engines"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("the agent's answer: %w", err)
	}
	return answer.Engines, nil
}

func findEngines(ctx context.Context, cfg *config.Config) ([]heartbeat.Engine, error) {
	found, err := engine.NewFinder(engine.FinderConfig{Dir: enginesDir(cfg)}).Detect(ctx)
	all := make([]heartbeat.Engine, len(found))
	for i, s := range found {
		all[i] = heartbeat.Engine{Engine: s.Name, Installed: s.Installed, BinaryPath: s.Path, Version: s.Version, Running: s.Running, PID: s.PID, Port: s.Port}
	}
	return all, err
}

func writeEngines(w io.Writer, engines []heartbeat.Engine) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENGINE\tSTATE\tVERSION\tPORT\tPROGRAM")
	for _, e := range engines {
		state := "not installed"
		switch {
		case e.Running && e.PID > 0:
			state = fmt.Sprintf("running (PID %d)", e.PID)
		case e.Running:
			state = "running"
		case e.Installed:
			state = "installed"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", printable(e.Engine), state, orDash(printable(e.Version)), e.Port, orDash(printable(e.BinaryPath)))
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// newEnginesInstallCommand returns `kitt-agent engines install`.
func newEnginesInstallCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "install ENGINE",
		Short: "Install the version of an engine that agent.yaml names",
		Long: `Install the version of an engine that engines.packages of agent.yaml names, into the
agent's own directory. Its SHA-256 must be right, and nothing of it is run. It is off
until policy.engines.install names the engine.`,
		Example: "  kitt-agent engines install llama_cpp",
		Args:    exactly(1, "the name of an engine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return env.engineJob(cmd.Context(), agent.TypeInstallEngine, map[string]any{"engine_name": args[0]}, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print how it ended as JSON")
	return cmd
}

// newEnginesStartCommand returns `kitt-agent engines start`.
func newEnginesStartCommand(env *environment) *cobra.Command {
	var model string
	var set map[string]string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "start ENGINE",
		Short: "Start an engine, and wait until it is healthy",
		Long: `Start an engine with a model, and wait until it is healthy. It waits for its turn on the
GPUs behind the benchmarks that were accepted before. Its output is shown meanwhile;
later, kitt-agent engines logs shows it.`,
		Example: "  kitt-agent engines start llama_cpp --model /models/m.gguf --set n_ctx=8192 --set port=8090\n  kitt-agent engines start ollama",
		Args:    exactly(1, "the name of an engine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload := map[string]any{"engine_name": args[0], "model_path": model, "runtime_config": runtimeConfig(set)}
			return env.engineJob(cmd.Context(), agent.TypeStartEngine, payload, asJSON)
		},
	}
	cmd.Flags().StringVar(&model, "model", "", "`path` of the model, on the share or this machine")
	cmd.Flags().StringToStringVar(&set, "set", nil, "`key=value` of runtime_config, such as n_ctx=8192; more than once for several")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print how it ended as JSON")
	return cmd
}

// runtimeConfig returns the values of --set: what is JSON as that, the rest as text.
func runtimeConfig(set map[string]string) map[string]any {
	values := map[string]any{}
	for key, text := range set {
		if json.Valid([]byte(text)) {
			values[key] = json.RawMessage(text)
		} else {
			values[key] = text
		}
	}
	return values
}

// jobReport is what install, start and stop print with --json.
type jobReport struct {
	CommandID string `json:"command_id,omitempty"`
	Status    string `json:"status"` // completed, failed or cancelled
	Error     string `json:"error,omitempty"`
}

// engineJob sends a command, shows its log until it has ended, and fails if it did.
func (env *environment) engineJob(ctx context.Context, kind string, payload map[string]any, asJSON bool) error {
	_, c, err := env.agentClient()
	if err != nil {
		return err
	}
	text, err := c.Command(ctx, client.Command{Type: kind, Payload: payload})
	if err != nil {
		return err
	}
	var answer struct {
		CommandID string `json:"command_id"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.CommandID == "" {
		return fmt.Errorf("the agent's answer is not understood: %s", printable(string(text)))
	}
	printer := &logPrinter{out: env.stdout, terminal: logging.IsTerminal(env.stdout)}
	if asJSON {
		printer.out = io.Discard
	}
	end, err := followLog(ctx, c, answer.CommandID, true, printer)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		env.say("it goes on; to stop it: kitt-agent test stop %s", answer.CommandID)
		return &codedError{code: exitFailure}
	}
	if err != nil {
		return err
	}
	return env.reportJob(jobReport{answer.CommandID, end.Status, end.Error}, asJSON)
}

func (env *environment) reportJob(r jobReport, asJSON bool) error {
	if asJSON {
		if err := env.printJSON(r); err != nil {
			return err
		}
	}
	if r.Status == string(agent.StateCompleted) {
		return nil
	}
	if asJSON {
		return &codedError{code: exitFailure}
	}
	return &codedError{exitFailure, printable(orDash(r.Error))}
}

// newEnginesStopCommand returns `kitt-agent engines stop`.
func newEnginesStopCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "stop ENGINE",
		Short:   "Stop an engine that the agent started",
		Long:    "Stop an engine that the agent started, with all that it started itself, and wait until it is gone.",
		Example: "  kitt-agent engines stop llama_cpp",
		Args:    exactly(1, "the name of an engine"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, c, err := env.agentClient()
			if err != nil {
				return err
			}
			text, err := c.Command(cmd.Context(), client.Command{Type: agent.TypeStopEngine, Payload: map[string]any{"engine_name": args[0]}})
			if err != nil {
				return err
			}
			var answer struct {
				Success   bool   `json:"success"`
				Error     string `json:"error"`
				CommandID string `json:"command_id"`
			}
			if err := json.Unmarshal(text, &answer); err != nil {
				return fmt.Errorf("the agent's answer: %w", err)
			}
			report := jobReport{answer.CommandID, string(agent.StateFailed), answer.Error}
			if answer.Success {
				report.Status = string(agent.StateCompleted)
				if !asJSON {
					env.say("%s is stopped", args[0])
				}
			}
			return env.reportJob(report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print how it ended as JSON")
	return cmd
}

// engineNames returns the names of the engines that an agent can start.
func engineNames() string {
	names := map[string]bool{}
	for _, s := range engine.Specs() {
		if s.Startable() {
			names[s.Name] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}
