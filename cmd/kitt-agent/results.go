package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
)

// Exit codes of results compare.
const (
	exitDiffers       = 5
	exitNotComparable = 6
)

// selectors explains the words that choose runs; the help of several commands ends with
// it.
const selectors = `

A run is named by the beginning of its id or its test's, an imported one as agent/id, and
several runs by conditions without blanks, such as model=llama,engine=vllm,since=7d.
Conditions are model (part of the name), engine, suite, benchmark, state, verdict, agent,
version, origin, test, and since and until (a duration before now, or a date).`

// newResultsCommand returns `kitt-agent results`.
func newResultsCommand(env *environment) *cobra.Command {
	return group(&cobra.Command{
		Use:   "results",
		Short: "List, show, compare and exchange the results that the agent keeps",
		Long: `List, show, compare and exchange the results that the agent keeps, with the verdict on
the machine during each run. No agent need run, but for calibrate.`,
		Example: "  kitt-agent results list\n  kitt-agent results show 1111 --svg run.svg\n  kitt-agent results compare version=1.0.0 -- version=1.1.0",
	}, newResultsListCommand(env), newResultsShowCommand(env), newResultsCompareCommand(env), newResultsPinCommand(env),
		newResultsExportCommand(env), newResultsImportCommand(env), newResultsCalibrateCommand(env))
}

// results returns the settings in force and the runs of the agent that they configure.
func (env *environment) results() (*config.Config, *results.Store, error) {
	cfg, err := env.config(nil)
	if err != nil {
		return nil, nil, err
	}
	return cfg, results.Open(cfg.Home), nil
}

// selected returns what Find found, with a word that makes no sense as a usage error.
// example is a right command line.
func selected[T any](example string, found T, err error) (T, error) {
	if odd, ok := errors.AsType[*results.SelectorError](err); ok {
		return found, usageError(example, "%s", odd.Text)
	}
	return found, err
}

// maxLoaded is the most runs that are held in memory at once with all their figures.
const maxLoaded = 1000

// loadRuns returns the runs that words select. example is a right command line.
func loadRuns(ctx context.Context, store *results.Store, example string, words []string) ([]*results.Run, error) {
	found, err := store.Find(ctx, words...)
	if found, err = selected(example, found, err); err != nil {
		return nil, err
	}
	if len(found) > maxLoaded {
		return nil, fmt.Errorf("these are %d runs, and at most %d can be used at once; choose fewer, such as with since=7d", len(found), maxLoaded)
	}
	return store.LoadAll(ctx, found)
}

// outputFlags are how a command prints what it has.
type outputFlags struct{ json, csv bool }

func (o *outputFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print "+what+" as JSON")
	cmd.Flags().BoolVar(&o.csv, "csv", false, "print "+what+" as CSV, for a spreadsheet")
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, words []string) error {
		if o.json && o.csv {
			return usageError(cmd.CommandPath()+" --json", "--json and --csv exclude each other")
		}
		if args != nil {
			return args(cmd, words)
		}
		return nil
	}
}

// newResultsListCommand returns `kitt-agent results list`.
func newResultsListCommand(env *environment) *cobra.Command {
	var out outputFlags
	limit := 20
	cmd := &cobra.Command{
		Use:     "list [run or condition]...",
		Short:   "List results, the newest first",
		Long:    "List results, the newest first, with the verdict on the machine during each run." + selectors,
		Example: "  kitt-agent results list\n  kitt-agent results list engine=vllm,since=7d --limit 0\n  kitt-agent results list verdict=invalid --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			const example = "kitt-agent results list engine=vllm"
			if limit < 0 {
				return usageError("kitt-agent results list --limit 20", "--limit is %d, which is negative", limit)
			}
			_, store, err := env.results()
			if err != nil {
				return err
			}
			runs, err := store.Find(cmd.Context(), args...)
			if runs, err = selected(example, runs, err); err != nil {
				return err
			}
			if (out.json || out.csv) && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			all := len(runs)
			if limit > 0 && all > limit {
				runs = runs[:limit]
			}
			switch {
			case out.json:
				return env.printJSON(append([]results.Summary{}, runs...))
			case out.csv:
				return results.WriteListCSV(env.stdout, runs)
			}
			return writeRuns(env.stdout, runs, all)
		},
	}
	out.add(cmd, "the list")
	cmd.Flags().IntVar(&limit, "limit", limit, "at most so many; 0 for all, as with --json and --csv")
	return cmd
}

// writeRuns prints runs as a table; all is how many there are.
func writeRuns(w io.Writer, runs []results.Summary, all int) error {
	if len(runs) == 0 {
		_, err := fmt.Fprintln(w, "No results.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tENDED\tSTATE\tMODEL\tENGINE\tSUITE\tRESULT\tMACHINE")
	for i := range runs {
		r := &runs[i]
		measured := "-"
		if r.Headline != nil {
			measured = fmt.Sprintf("%.4g %s", r.Headline.Value, printable(r.Headline.Name))
		}
		machine := string(r.Verdict)
		if len(r.Problems) > 0 {
			machine += " (" + shortenEnd(r.Problems[0], 60) + ")"
		} else if r.Reason != "" && r.Verdict != "valid" {
			machine += ": " + shortenEnd(r.Reason, 60)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shorten(r.Name(), 40), localTime(r.Time()), printable(r.State), shorten(r.Model, 40),
			shorten(r.Engine, 20), shorten(r.Suite, 20), measured, machine)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more := all - len(runs); more > 0 {
		_, err := fmt.Fprintf(w, "\n%d more; --limit shows more of them\n", more)
		return err
	}
	return nil
}

// localTime returns a time for a table.
func localTime(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format(time.DateTime)
}
