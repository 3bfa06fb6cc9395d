package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/systemd"
	"github.com/kirizan/kitt-agent/internal/base"
)

// serviceReport is what `service status --json` prints.
type serviceReport struct {
	Unit        string          `json:"unit"`
	User        bool            `json:"user"` // whether it is a service of the user's own systemd
	Installed   bool            `json:"installed"`
	Running     bool            `json:"running"`
	Active      string          `json:"active"`
	Sub         string          `json:"sub"`
	Enabled     string          `json:"enabled"`
	File        string          `json:"file,omitempty"`
	Since       time.Time       `json:"since,omitzero"`
	PID         int             `json:"pid,omitempty"`
	Restarts    int             `json:"restarts"`
	MemoryBytes int64           `json:"memory_bytes,omitempty"`
	Text        string          `json:"text,omitempty"`
	Result      string          `json:"result,omitempty"`
	NeedReload  bool            `json:"need_reload"`
	Agent       json.RawMessage `json:"agent,omitempty"` // the agent's own words
}

// newServiceStatusCommand returns `kitt-agent service status`.
func newServiceStatusCommand(env *environment) *cobra.Command {
	var ofUser, asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the service",
		Long: `Show the state of the service, according to systemd and in the agent's own words.

Exits with 3 if it does not run.`,
		Example: "  kitt-agent service status\n  kitt-agent service status --json\n  kitt-agent service status --user",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			unit := env.unit(ofUser)
			state, err := unit.State(cmd.Context())
			if err != nil {
				return explainSystemd(unit, err)
			}
			agent, raw := env.serviceAgent(cmd.Context(), unit, state)
			if asJSON {
				err = env.printJSON(serviceReport{
					Unit: unit.Name, User: unit.User, Installed: state.Installed(), Running: state.Running(),
					Active: state.Active, Sub: state.Sub, Enabled: state.Enabled, File: state.File, Since: state.Since, PID: state.PID,
					Restarts: state.Restarts, MemoryBytes: max(state.MemoryBytes, 0), Text: state.Text, Result: state.Result,
					NeedReload: state.NeedReload, Agent: raw,
				})
			} else {
				err = writeServiceStatus(env.stdout, unit, state, agent, time.Now())
			}
			switch {
			case err != nil:
				return err
			case state.Running():
				return nil
			case !state.Installed():
				return &codedError{exitNotRunning, "the service is not installed\ntry: kitt-agent service install"}
			case state.Active == "failed" || state.Active == "activating":
				return &codedError{exitNotRunning, "the service fails; see: kitt-agent service logs"}
			}
			return &codedError{exitNotRunning, "the service is not running\ntry: kitt-agent service install"}
		},
	}
	cmd.Flags().BoolVar(&ofUser, "user", false, "the service of your own systemd")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// serviceAgent asks the agent in the service itself. It returns nothing where
// that can't be done: whether the service runs is systemd's to say.
func (env *environment) serviceAgent(ctx context.Context, unit systemd.Unit, state systemd.State) (*agent.Status, json.RawMessage) {
	if !state.Running() {
		return nil, nil
	}
	cfg, err := env.installedConfig(unit)
	if err != nil {
		return nil, nil
	}
	c, err := newAgentClient(cfg)
	if err != nil {
		return nil, nil
	}
	status, raw, err := c.Status(ctx)
	if err != nil {
		return nil, nil
	}
	return status, raw
}

// writeServiceStatus writes the report for a person.
func writeServiceStatus(out io.Writer, unit systemd.Unit, state systemd.State, agent *agent.Status, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	whose := ""
	if unit.User {
		whose = " (of your own systemd)"
	}
	row("Unit", "%s%s", unit.Name, whose)
	if !state.Installed() {
		row("State", "not installed")
		return w.Flush()
	}
	text := fmt.Sprintf("%s (%s)", state.Active, state.Sub)
	if state.Result != "" && state.Result != "success" {
		text += ", " + state.Result
	}
	if !state.Since.IsZero() {
		text += ", for " + span(now.Sub(state.Since))
	}
	row("State", "%s", text)
	row("At boot", "%s", orUnknown(state.Enabled))
	row("File", "%s", orUnknown(state.File))
	if state.NeedReload {
		row("", "changed since systemd read it; kitt-agent service install has systemd reload it")
	}
	if state.PID > 0 {
		row("Process", "%d", state.PID)
	}
	if state.Restarts > 0 {
		row("Restarts", "%d, by systemd", state.Restarts)
	}
	if state.MemoryBytes >= 0 && state.Running() {
		row("Memory", "%s, with local benchmarks", base.Size(state.MemoryBytes))
	}
	if state.Text != "" {
		row("Says", "%s", state.Text)
	}
	if agent != nil {
		row("Agent", "%s%s", agent.Name, about(agent))
		row("Jobs", "%d running or waiting, %d ended whose reports wait", len(agent.Jobs), agent.Undelivered)
	}
	return w.Flush()
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// newServiceLogsCommand returns `kitt-agent service logs`.
func newServiceLogsCommand(env *environment) *cobra.Command {
	var ofUser, follow bool
	lines := 100
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show the log of the service",
		Long: `Show the log of the service, as journalctl does, or the end of the agent's own log file
where there is no journal. The log of a job is another one: kitt-agent logs.`,
		Example: "  kitt-agent service logs\n  kitt-agent service logs --follow\n  kitt-agent service logs --lines 1000",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lines < 1 {
				return usageError("kitt-agent service logs --lines 100", "--lines is at least 1")
			}
			unit := env.unit(ofUser)
			journalctl, err := exec.LookPath("journalctl")
			if err == nil {
				if _, err = unit.State(cmd.Context()); err == nil {
					return env.showJournal(cmd.Context(), journalctl, unit, lines, follow)
				}
			}
			cfg, err := env.config(nil)
			if err != nil {
				return err
			}
			if follow {
				return &codedError{exitFailure, fmt.Sprintf("there is no journal to follow on this machine\ntry: tail -F %s", cfg.LogFile())}
			}
			return env.showLogFile(cfg, lines)
		},
	}
	cmd.Flags().BoolVar(&ofUser, "user", false, "the service of your own systemd")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().IntVarP(&lines, "lines", "n", lines, "how many lines at most, the last ones")
	return cmd
}

// showJournal runs journalctl in place of ours: it has the terminal, and its
// exit says how it went.
func (env *environment) showJournal(ctx context.Context, journalctl string, unit systemd.Unit, lines int, follow bool) error {
	args := []string{"--unit=" + unit.Name}
	if unit.User {
		args = []string{"--user", "--user-unit=" + unit.Name}
	}
	args = append(args, "--lines="+strconv.Itoa(lines))
	if follow {
		args = append(args, "--follow")
	}
	cmd := exec.CommandContext(ctx, journalctl, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Second
	cmd.Stdout, cmd.Stderr = env.stdout, env.stderr
	err := cmd.Run()
	if follow && ctx.Err() != nil {
		return nil // the usual way to stop following
	}
	if err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	return nil
}

// maxTail is how much of the end of the agent's log file is looked at, in bytes.
const maxTail = 4 << 20

// showLogFile prints the last lines of the agent's own log.
func (env *environment) showLogFile(cfg *config.Config, lines int) error {
	f, err := os.Open(cfg.LogFile())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the agent has written no log yet: there is no %s", cfg.LogFile())
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	from := max(info.Size()-maxTail, 0)
	text, err := io.ReadAll(io.NewSectionReader(f, from, maxTail))
	if err != nil {
		return err
	}
	all := strings.SplitAfter(string(text), "\n")
	if from > 0 {
		all = all[1:] // the first is half a line
	}
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	_, err = io.WriteString(env.stdout, strings.Join(all[max(len(all)-lines, 0):], ""))
	return err
}
