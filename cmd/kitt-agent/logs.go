package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/logging"
)

// quiet is how long a log that isn't followed may say nothing before all that it
// has so far counts as read.
const quiet = time.Second

// errRead says that all there is so far was read.
var errRead = errors.New("read")

// newLogsCommand returns `kitt-agent logs`.
func newLogsCommand(env *environment) *cobra.Command {
	var follow, asJSON bool
	tail := -1
	cmd := &cobra.Command{
		Use:   "logs [command or test id]",
		Short: "Show the log of a job",
		Long: `Show the log of a job, from its first line or, with --tail, its last lines.

Without an id it is the newest job. The beginning of an id is enough where no other
begins like it.

The running agent is asked for it; if none runs, the log is read from the agent's
files. With --follow new lines are shown as they come until the job ends, also
across a restart of the agent.`,
		Example: "  kitt-agent logs\n  kitt-agent logs --follow --tail 20\n  kitt-agent logs 1111 --json",
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer := &logPrinter{out: env.stdout, json: asJSON, terminal: logging.IsTerminal(env.stdout)}
			if cmd.Flags().Changed("tail") {
				if tail < 0 || tail > maxTailLines {
					return usageError("kitt-agent logs --tail 20", "--tail is %d, not from 0 to %d", tail, maxTailLines)
				}
				printer.tail = &logTail{lines: tail}
			}
			cfg, c, err := env.agentClient()
			if err != nil {
				return err
			}
			id, err := pickJob(knownJobs(cmd.Context(), c, cfg), strings.Join(args, ""))
			if err != nil {
				return err
			}
			end, err := followLog(cmd.Context(), c, id, follow, printer)
			if errors.Is(err, client.ErrNotRunning) {
				err = logFromDisk(cmd.Context(), cfg, id, printer)
			}
			if printer.tail != nil {
				err = errors.Join(err, printer.tail.release())
			}
			switch {
			case follow && errors.Is(err, context.Canceled) && cmd.Context().Err() != nil:
				return nil // the usual way to stop following
			case isNotFound(err):
				return fmt.Errorf("the agent has no job with the id %s; kitt-agent status and kitt-agent test list show ids", quote(id))
			case err != nil:
				return err
			}
			if follow && end.Status != "" && !asJSON {
				env.say("job %s%s", end.Status, because(end.Error))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job ends")
	cmd.Flags().IntVar(&tail, "tail", -1, "only the last `lines` of what there is, and with --follow all that come then (default all)")
	cmd.Flags().Lookup("tail").DefValue = "0" // which help leaves out
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

// maxTailLines bounds what --tail holds in memory.
const maxTailLines = 1_000_000

// isNotFound reports whether the agent says that it has no such log.
func isNotFound(err error) bool {
	api, ok := errors.AsType[*client.APIError](err)
	return ok && api.Status == http.StatusNotFound
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + printable(reason)
}

// followLog prints the log of a job, all of it or what there is now.
func followLog(ctx context.Context, c *client.Client, id string, follow bool, printer *logPrinter) (client.End, error) {
	if follow {
		return c.Follow(ctx, id, printer.event)
	}
	// The stream of a job that runs doesn't end. The agent says how many lines
	// there are; one that doesn't is taken to have sent all once it pauses.
	status, _, err := c.Status(ctx)
	if err != nil {
		return client.End{}, err
	}
	lines := int64(-1)
	if job := status.Job(id); job != nil && job.EndedAt.IsZero() {
		if lines = job.LogLines; lines == 0 {
			return client.End{}, nil
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pause := time.AfterFunc(quiet, func() { cancel(errRead) })
	defer pause.Stop()
	seen := int64(0)
	end, err := c.Follow(ctx, id, func(e client.Event) error {
		pause.Reset(quiet)
		if err := printer.event(e); err != nil {
			return err
		}
		if e.Type == "log" {
			seen++
		}
		if lines >= 0 && seen >= lines {
			return errRead
		}
		return nil
	})
	if errors.Is(err, errRead) || errors.Is(context.Cause(ctx), errRead) {
		return client.End{}, nil
	}
	return end, err
}

// logFromDisk prints the log of a job that no agent serves.
func logFromDisk(ctx context.Context, cfg *config.Config, id string, printer *logPrinter) error {
	stored, err := agent.StoredJobs(cfg.Home)
	for _, j := range stored {
		if j.CommandID == id || j.TestID == id {
			return j.ReadLog(ctx, printer.line)
		}
	}
	return errors.Join(fmt.Errorf("there is no job with the id %s in %s", quote(id), filepath.Join(cfg.Home, "jobs")), err)
}

// logPrinter writes lines of a log.
type logPrinter struct {
	out      io.Writer
	json     bool
	terminal bool
	tail     *logTail // nil for all lines
}

// event writes a line for a log event. Others are for programs.
func (p *logPrinter) event(e client.Event) error {
	switch {
	case e.Type != "log":
		return nil
	case p.json:
		return p.encode(map[string]any{"id": e.ID, "line": e.Line()})
	}
	return p.line(e.Line())
}

// line writes one line of the log.
func (p *logPrinter) line(text string) error {
	if p.json {
		return p.encode(map[string]any{"line": text})
	}
	if p.terminal {
		text = logLine(text)
	}
	return p.put(func() error {
		_, err := fmt.Fprintln(p.out, text)
		return err
	})
}

// put writes a line with write, or has the tail do so.
func (p *logPrinter) put(write func() error) error {
	if p.tail != nil {
		return p.tail.line(write)
	}
	return write()
}

func (p *logPrinter) encode(v any) error {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	return p.put(func() error { return enc.Encode(v) })
}
