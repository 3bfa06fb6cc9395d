package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/reporter"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/runner/slurm"
)

// newTestCommand returns `kitt-agent test`.
func newTestCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:     "test",
		Short:   "List this agent's tests on the server, or stop one",
		Example: "  kitt-agent test list\n  kitt-agent test stop 0f5b8f0a2c3d4e5f",
	}, newTestListCommand(env), newTestStopCommand(env))
}

// maxListed is how many tests one answer of the server holds.
const maxListed = 100

// testStatuses are the states of a test at the server, which answers with an
// empty list where it is asked for another.
var testStatuses = []string{"queued", "dispatched", "running", "completed", "failed"}

// newTestListCommand returns `kitt-agent test list`.
func newTestListCommand(env *environment) *cobra.Command {
	var status string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tests that the server has for this agent, the newest first",
		Example: "  kitt-agent test list\n  kitt-agent test list --status running\n  kitt-agent test list --limit 5 --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > maxListed {
				return usageError("kitt-agent test list --limit 20", "--limit is %d, not from 1 to %d", limit, maxListed)
			}
			if status != "" && !slices.Contains(testStatuses, status) {
				return usageError("kitt-agent test list --status running", "--status is %s, not one of %s", quote(status), strings.Join(testStatuses, ", "))
			}
			cfg, server, err := env.server()
			if err != nil {
				return err
			}
			page, err := server.Tests(cmd.Context(), kittapi.Filter{Agent: cfg.Name, Status: status, PerPage: limit})
			if err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(page)
			}
			return writeTests(env.stdout, page, slurmIDs(cfg.Home))
		},
	}
	env.insecureFlag(cmd)
	flags := cmd.Flags()
	flags.StringVar(&status, "status", "", "only those with this status: queued, dispatched, running, completed or failed")
	flags.IntVar(&limit, "limit", 20, "at most so many, from 1 to 100")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// server returns the settings in force and the client of the server that they
// name.
func (env *environment) server() (*config.Config, *kittapi.Client, error) {
	cfg, err := env.config(nil)
	if err != nil {
		return nil, nil, err
	}
	server, err := newServer(cfg, slog.New(slog.DiscardHandler))
	return cfg, server, err
}

// slurmIDs returns the IDs that Slurm gave the tests whose jobs are below home, by the
// tests' own.
func slurmIDs(home string) map[string]string {
	ids := map[string]string{}
	jobs, _ := agent.StoredJobs(home) // those whose state can be read
	for _, j := range jobs {
		if s, ok := slurm.ReadStatus(j.Dir); ok && j.TestID != "" {
			ids[j.TestID] = s.ID
		}
	}
	return ids
}

// writeTests prints tests as a table, with Slurm's IDs where there are any.
func writeTests(w io.Writer, page kittapi.TestPage, slurmIDs map[string]string) error {
	if len(page.Items) == 0 {
		_, err := fmt.Fprintln(w, "No tests.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head, column := "", func(kittapi.TestRow) string { return "" }
	if len(slurmIDs) > 0 {
		head, column = "SLURM\t", func(t kittapi.TestRow) string { return slurmIDs[t.ID] + "\t" }
	}
	fmt.Fprintln(table, "TEST\tSTATUS\t"+head+"ENGINE\tSUITE\tMODEL\tCREATED\tERROR")
	for _, t := range page.Items {
		fmt.Fprintf(table, "%s\t%s\t%s%s\t%s\t%s\t%s\t%s\n", printable(t.ID), printable(t.Status), column(t), printable(t.EngineName),
			printable(t.SuiteName), shorten(t.ModelPath, 40), seconds(t.CreatedAt), shorten(t.Error, 40))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more := page.Total - len(page.Items); more > 0 {
		_, err := fmt.Fprintf(w, "\n%d more; --limit shows more of them\n", more)
		return err
	}
	return nil
}

// seconds returns a time of the server's without what is smaller than a second,
// as in 2026-11-25T18:47:31.744870.
func seconds(at string) string {
	before, _, _ := strings.Cut(printable(at), ".")
	return before
}

// shorten returns a text from elsewhere in at most n characters, its end kept:
// that is where paths differ.
func shorten(text string, n int) string {
	runes := []rune(printable(text))
	if len(runes) <= n {
		return string(runes)
	}
	return "…" + string(runes[len(runes)-n+1:])
}

// testStop is what `test stop --json` prints.
type testStop struct {
	TestID string   `json:"test_id"`
	Status string   `json:"status"` // before
	Server string   `json:"server"` // what became of it there
	Agent  string   `json:"agent"`  // what became of it here
	Said   []string `json:"said"`
}

// newTestStopCommand returns `kitt-agent test stop`.
func newTestStopCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stop <test id>",
		Short: "Stop one of this agent's tests",
		Long: `Stop one of this agent's tests, whether it waits or runs: the agent ends it and frees
the machine, and the server shows it as failed with the error "Cancelled by user".
Without a running agent only the server is told; an agent that starts later heeds it.

A job of which the server knows nothing, such as the start of an engine that was asked
for on this machine, is stopped by its command's id, which kitt-agent status shows.`,
		Example: "  kitt-agent test stop 0f5b8f0a2c3d4e5f",
		Args:    exactly(1, "the id of a test"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, server, err := env.server()
			if err != nil {
				return err
			}
			local, err := newAgentClient(cfg)
			if err != nil {
				return err
			}
			report := testStop{TestID: args[0]}
			err = stopTest(cmd.Context(), cfg, server, local, &report)
			if asJSON {
				return errors.Join(env.printJSON(report), err)
			}
			for _, line := range report.Said {
				fmt.Fprintln(env.stdout, line)
			}
			return err
		},
	}
	env.insecureFlag(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// stopTest stops a test and says in r, in order, what happened. The agent here
// is asked before the server is told, so that it reports the end itself; the
// server is told where the agent did not.
func stopTest(ctx context.Context, cfg *config.Config, server *kittapi.Client, local *client.Client, r *testStop) error {
	say := func(format string, args ...any) { r.Said = append(r.Said, fmt.Sprintf(format, args...)) }
	row, err := server.TestByID(ctx, r.TestID)
	if err != nil {
		if refused, ok := errors.AsType[*reporter.RejectedError](err); ok && refused.Code == 404 {
			if known, err := stopOwnJob(ctx, local, r); known {
				return err
			}
			return fmt.Errorf("the server has no test %s; kitt-agent test list shows this agent's", quote(r.TestID))
		}
		return err
	}
	r.Status = row.Status
	if err := ownTest(ctx, cfg, server, row); err != nil {
		return err
	}
	if row.Status == "completed" || row.Status == "failed" {
		r.Server, r.Agent = "ended", "ended"
		say("Test %s has ended already: %s%s", row.ID, row.Status, because(row.Error))
		return nil
	}
	answer, err := local.Command(ctx, client.Command{Type: agent.TypeCancel, TestID: row.ID})
	var api *client.APIError
	switch why := notStopped(answer); {
	case err == nil && why != "":
		r.Agent = "not stopped"
		r.Server = row.Status // the agent reports the end
		return fmt.Errorf("the agent has not stopped it yet: %s; kitt-agent status shows when it has", why)
	case err == nil:
		r.Agent = "stopped"
		say("The agent has stopped it.")
	case errors.Is(err, client.ErrNotRunning):
		r.Agent = "not running"
		say("The agent is not running here.")
	case errors.As(err, &api) && api.Status == 404:
		r.Agent = "unknown"
		say("The agent has not taken it yet.")
	default:
		r.Agent = "failed"
		say("The agent could not be asked to stop it: %s", err)
	}
	if r.Agent == "stopped" {
		if now, ok := awaitEnd(ctx, server, row.ID); ok {
			r.Server = now.Status
			say("The server shows it as %s%s.", now.Status, because(now.Error))
			return nil
		}
	}
	if err := server.ReportStatus(ctx, row.ID, "failed", kittapi.CancelledByUser); err != nil {
		r.Server = "not told"
		return fmt.Errorf("the server was not told: %w", err)
	}
	r.Server = "failed"
	say("The server was told: failed, %s.", kittapi.CancelledByUser)
	if r.Agent == "failed" {
		return errors.New("the test may still run here; an agent that hears of it from the server stops it")
	}
	return nil
}

// stopOwnJob stops a job of which the server knows nothing, such as the start of an engine
// that was asked for on this machine. known is false if the agent here has no such job or
// cannot be asked.
func stopOwnJob(ctx context.Context, local *client.Client, r *testStop) (known bool, err error) {
	answer, err := local.Command(ctx, client.Command{Type: agent.TypeCancel, TestID: r.TestID})
	if err != nil {
		return false, err
	}
	r.Server = "unknown"
	if why := notStopped(answer); why != "" {
		r.Agent = "not stopped"
		return true, fmt.Errorf("the agent has not stopped it yet: %s; kitt-agent status shows when it has", why)
	}
	r.Agent = "stopped"
	r.Said = append(r.Said, "The agent has stopped it. The server knows nothing of this job.")
	return true, nil
}

// notStopped returns why the agent's answer to a cancel doesn't say that the job was
// stopped; empty if it does. The Python agent's answer says neither.
func notStopped(answer json.RawMessage) string {
	var a struct {
		Stopped *bool
		Ended   bool // before the cancel
		Error   string
	}
	if json.Unmarshal(answer, &a) != nil || a.Stopped == nil || *a.Stopped || a.Ended {
		return ""
	}
	return cmp.Or(printable(a.Error), "the job has not ended")
}

// awaitEnd waits a little for the server to show a test as ended: an agent that
// stopped it reports that itself.
func awaitEnd(ctx context.Context, server *kittapi.Client, testID string) (kittapi.TestRow, bool) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 25 {
		row, err := server.TestByID(ctx, testID)
		if err == nil && (row.Status == "completed" || row.Status == "failed") {
			return row, true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return row, false
		}
	}
	return kittapi.TestRow{}, false
}

// ownTest checks that a test is this agent's. The row itself names only the id
// of its agent, so the agent's own rows are asked for that.
func ownTest(ctx context.Context, cfg *config.Config, server *kittapi.Client, row kittapi.TestRow) error {
	mine, err := server.Tests(ctx, kittapi.Filter{Agent: cfg.Name, PerPage: maxListed})
	if err != nil {
		return err
	}
	for _, t := range mine.Items {
		if t.AgentID == row.AgentID {
			return nil
		}
	}
	return fmt.Errorf("test %s belongs to another agent than %s; stop it there, or on the server's pages", quote(row.ID), quote(cfg.Name))
}
