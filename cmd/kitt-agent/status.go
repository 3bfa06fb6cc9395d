package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/certs"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/pidfile"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

// statusReport is what `status --json` prints.
type statusReport struct {
	Up       bool            `json:"up"`
	PID      int             `json:"pid,omitempty"`
	URL      string          `json:"url"`
	Error    string          `json:"error,omitempty"`
	Degraded string          `json:"degraded,omitempty"` // the first of the agent's problems
	Status   json.RawMessage `json:"status,omitempty"`   // the agent's own words

	Certificate *certs.Info `json:"certificate,omitempty"` // the agent's, as it is on disk
}

// newStatusCommand returns `kitt-agent status`.
func newStatusCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the agent on this machine",
		Long: `Show the state of the agent on this machine: its jobs, its server, the settings in force.

Exits with 3 if no agent is running, with 1 if one is but does not answer, and with 4
if it answers but is degraded: something keeps it from its work or soon will, such as a
server that refuses it, a GPU that cannot be used or a disk that is almost full. Each
problem is shown with its remedy.`,
		Example: "  kitt-agent status\n  kitt-agent status --json\n  kitt-agent status --config /etc/kitt/agent.yaml",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, c, err := env.agentClient()
			if err != nil {
				return err
			}
			// Only for the process id: whether the agent runs shows in its answer.
			owner, held, findErr := pidfile.Find(cfg.PIDFile())
			status, raw, err := c.Status(cmd.Context())
			if errors.Is(err, client.ErrNotRunning) && held {
				err = fmt.Errorf("process %d is running, but nothing listens at %s; see %s", owner.PID, c.URL(), cfg.LogFile())
			}
			degraded := ""
			if err == nil {
				degraded = printable(status.Degraded)
			}
			if asJSON {
				return env.printStatus(statusReport{Up: err == nil, PID: owner.PID, URL: c.URL(), Degraded: degraded, Status: raw,
					Certificate: certificate(cfg, time.Now())}, err)
			}
			if err != nil {
				return err
			}
			if findErr != nil {
				env.say("kitt-agent: warning: %s", findErr)
			}
			if status.Name != cfg.Name {
				env.say("kitt-agent: warning: the agent that answers at %s calls itself %s, and the settings here name %s", c.URL(), quote(status.Name), quote(cfg.Name))
			}
			err = writeStatus(env.stdout, cfg, c.URL(), owner.PID, status, time.Now())
			if err == nil && degraded != "" {
				return &codedError{exitDegraded, "degraded: " + degraded}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// printStatus prints the report and returns an error that carries the exit code.
func (env *environment) printStatus(report statusReport, err error) error {
	if err != nil {
		report.Error = err.Error()
	}
	if printErr := env.printJSON(report); printErr != nil {
		return printErr
	}
	switch {
	case errors.Is(err, client.ErrNotRunning):
		return &codedError{code: exitNotRunning}
	case err != nil:
		return &codedError{code: exitFailure}
	case report.Degraded != "":
		return &codedError{code: exitDegraded}
	}
	return nil
}

// writeStatus writes the status for a person.
func writeStatus(out io.Writer, cfg *config.Config, url string, pid int, s *agent.Status, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	row("Agent", "%s%s", s.Name, about(s))
	if !s.StartedAt.IsZero() {
		row("Up", "%s", span(now.Sub(s.StartedAt)))
	}
	if pid > 0 {
		row("Process", "%d", pid)
	}
	row("API", "%s", url)
	row("Server", "%s", serverLine(cfg, s, now))
	if c := certificate(cfg, now); c != nil {
		row("Certificate", "%s, %s", c.Subject, lasts(c))
	}
	row("Models", "%d kept, %.1f GiB free", s.Storage.ModelCount, s.Storage.FreeGB)
	if s.Undelivered > 0 {
		row("Waiting", "%d ended jobs whose reports the server has not taken yet", s.Undelivered)
	}
	for _, name := range []string{"model_storage_dir", "model_share_source", "model_share_mount", "auto_cleanup", "kitt_image", "heartbeat_interval_s"} {
		if value := s.Settings[name]; value != "" {
			row(name, "%s%s", value, settingSource(s.SettingSources[name]))
		}
	}
	for i, set := range s.GPUSets {
		row(fmt.Sprintf("GPU set %d", i+1), "%s: %s", strings.Join(set.Devices, ", "), cmp.Or(set.Fault, set.Holder, "free"))
	}
	for _, p := range s.Problems {
		row("Problem", "%s", p)
		if p.Remedy != "" {
			row("Remedy", "%s", p.Remedy)
		}
	}
	for _, warning := range s.Warnings {
		row("Warning", "%s", warning)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Jobs) == 0 {
		_, err := fmt.Fprintln(out, "\nNo job runs or waits.")
		if err != nil || len(s.Recent) == 0 {
			return err
		}
	}
	return writeJobs(out, append(s.Jobs, s.Recent...), now)
}

// settingSource returns where a setting comes from, to be written after its value.
func settingSource(source string) string {
	switch source {
	case agent.SourceServer:
		return "  (from the server)"
	case agent.SourceRemembered:
		return "  (from the server, before the agent was started)"
	case agent.SourceMachine:
		return "  (from this machine's settings)"
	case agent.SourceDefault:
		return "  (default)"
	}
	return "" // an older agent does not say
}

// about returns what else there is to say of the agent in its first line.
func about(s *agent.Status) string {
	text := ""
	if s.Version != "" {
		text = " " + s.Version
	}
	switch {
	case s.Draining:
		text += ", stopping once its jobs have ended"
	case s.Degraded != "" && !s.Running:
		text += ", degraded"
	case s.Degraded != "":
		text += ", running, degraded"
	case s.State != "":
		text += ", " + s.State
	case s.Running:
		text += ", running"
	default:
		text += ", idle"
	}
	return text
}

func serverLine(cfg *config.Config, s *agent.Status, now time.Time) string {
	text := cfg.ServerURL
	if text == "" {
		text = "none in agent.yaml"
	}
	switch {
	case s.StartedAt.IsZero(): // the Python agent doesn't tell
		return text
	case s.Server.Refusal != "":
		text += fmt.Sprintf(": refuses this agent, %d failed attempts", s.Server.FailingFor)
	case s.Server.LastError != "":
		text += fmt.Sprintf(": not reached in %d attempts: %s", s.Server.FailingFor, s.Server.LastError)
	case !s.Server.Registered:
		text += ": not registered yet"
	default:
		text += ": registered as " + s.Server.AgentID
	}
	if !s.Server.LastBeat.IsZero() {
		text += fmt.Sprintf(", last heartbeat %s ago", span(now.Sub(s.Server.LastBeat)))
	}
	return text
}

// writeJobs writes a table of jobs.
func writeJobs(out io.Writer, jobs []agent.JobStatus, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nCOMMAND\tTEST\tSTATE\tMACHINE\tMODEL\tENGINE\tSUITE\tTIME\tLINES\n")
	for _, j := range jobs {
		state := string(j.State)
		if j.Copy != nil && j.Copy.BytesTotal > 0 {
			state += fmt.Sprintf(" (%s of %s)", base.Size(j.Copy.BytesDone), base.Size(j.Copy.BytesTotal))
		}
		note, machine := "", ""
		if j.Integrity != nil {
			machine = j.Integrity.Verdict
			if machine == string(integrity.Warning) || machine == string(integrity.Invalid) {
				note = j.Integrity.Text
			}
		}
		if text := cmp.Or(j.Error, j.Refused, note, inSlurm(j), j.WaitingFor); text != "" {
			note = "\t" + printable(text)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d%s\n", printable(j.CommandID), printable(j.TestID), printable(state), printable(machine),
			printable(j.Model), printable(j.Engine), printable(j.Suite), jobTime(j, now), j.LogLines, note)
	}
	return w.Flush()
}

// inSlurm says where a job is that Slurm has; it is empty for others.
func inSlurm(j agent.JobStatus) string {
	if !j.EndedAt.IsZero() {
		return ""
	}
	s, ok := slurm.ReadStatus(j.Dir)
	if !ok {
		return ""
	}
	return "Slurm " + s.String()
}

// jobTime returns how long a job waits, runs or ran.
func jobTime(j agent.JobStatus, now time.Time) string {
	switch {
	case j.StartedAt.IsZero() && !j.EndedAt.IsZero():
		return "never ran"
	case j.StartedAt.IsZero():
		return "waiting " + span(now.Sub(j.AcceptedAt))
	case j.EndedAt.IsZero():
		return span(now.Sub(j.StartedAt))
	}
	return span(j.EndedAt.Sub(j.StartedAt))
}
