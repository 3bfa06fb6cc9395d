package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/chart"
)

// sparkWidth is how many characters a sparkline has.
const sparkWidth = 60

// newResultsShowCommand returns `kitt-agent results show`.
func newResultsShowCommand(env *environment) *cobra.Command {
	var out outputFlags
	var svg string
	cmd := &cobra.Command{
		Use:   "show [run]",
		Short: "Show a result: what was measured, on what, and the machine's state",
		Long: `Show a result: its metrics, on what it was measured, the verdict on the machine with its
reasons, the energy, how it differs from the baseline, and the machine over time.
Without a run it is the newest one.

--svg writes a picture that a browser opens: clocks, power and temperature of each GPU,
when and by what it was slowed down, who else used it, and when the benchmark loaded and
measured.` + selectors,
		Example: "  kitt-agent results show\n  kitt-agent results show 1111 --svg run.svg\n  kitt-agent results show gpu-07/1111 --json",
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, store, err := env.results()
			if err != nil {
				return err
			}
			run, err := findOne(cmd, store, args)
			if err != nil {
				return err
			}
			if svg != "" {
				if err := env.writeSVG(svg, run); err != nil {
					return err
				}
				if svg == "-" {
					return nil
				}
			}
			switch {
			case out.json:
				return env.printJSON(run)
			case out.csv:
				return results.WriteCSV(env.stdout, []*results.Run{run})
			}
			said, err := baseline.Of(store).Compare(run)
			if err != nil {
				env.say("kitt-agent: warning: %s", printable(err.Error()))
			}
			return showRun(env.stdout, run, said)
		},
	}
	out.add(cmd, "the result")
	cmd.Flags().StringVar(&svg, "svg", "", "write a picture to this `file`; - for standard output")
	return cmd
}

// findOne returns the run that args name, or the newest one.
func findOne(cmd *cobra.Command, store *results.Store, args []string) (*results.Run, error) {
	runs, err := store.Find(cmd.Context(), args...)
	if runs, err = selected("kitt-agent results show 1111", runs, err); err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, errors.New("there are no results yet; kitt-agent status shows what the agent does")
	}
	return store.Load(runs[0])
}

// writeSVG writes a run's picture to a file.
func (env *environment) writeSVG(path string, run *results.Run) error {
	if path == "-" {
		return chart.SVG(env.stdout, run)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(chart.SVG(f, run), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("picture of run %s: %w", run.Name(), err), os.Remove(path))
	}
	return nil
}

// showRun prints a run. said are the remarks on its baseline.
func showRun(w io.Writer, r *results.Run, said []string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(key, value string) { fmt.Fprintf(table, "%s\t%s\n", key, value) }
	row("Run", fmt.Sprintf("%s, %s", printable(r.Name()), printable(r.State)))
	if r.TestID != "" {
		row("Test", printable(r.TestID))
	}
	row("Ended", localTime(r.Time()))
	if !r.Started.IsZero() && r.Ended.After(r.Started) {
		row("Took", span(r.Ended.Sub(r.Started)))
	}
	row("Model", known(printable(r.Model)))
	row("Engine", known(printable(r.Engine)))
	row("Suite", known(printable(r.Suite)))
	if r.Agent != "" {
		row("Agent", printable(r.Agent+" "+r.AgentVersion))
	}
	for _, field := range slices.Sorted(maps.Keys(r.Identity)) {
		row("  "+printable(field), printable(r.Identity[field]))
	}
	if r.Energy.Joules != nil {
		text := fmt.Sprintf("%.4g kJ", *r.Energy.Joules/1000)
		if r.Energy.JoulesPerToken != nil {
			text += fmt.Sprintf(", at most %.3g J per token (%.0f tokens; loading and warm-up included)", *r.Energy.JoulesPerToken, *r.Energy.Tokens)
		}
		row("Energy", text)
	}
	if r.Report != nil && r.Report.PageCache != nil {
		row("Model files", fmt.Sprintf("%.0f%% in memory before the run, which decides how long loading takes", 100*r.Report.PageCache.Resident))
	}
	row("Machine", verdictText(r))
	if r.Report != nil {
		for _, reason := range r.Report.Verdict.Reasons {
			text := fmt.Sprintf("%s: %s", reason.Severity, reason.Text)
			if reason.Remedy != "" {
				text += "; " + reason.Remedy
			}
			row("", shortenEnd(text, 300))
		}
	}
	for _, problem := range r.Problems {
		row("Problem", printable(problem))
	}
	for _, text := range said {
		row("", printable(text))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := writeRunMetrics(w, r); err != nil {
		return err
	}
	return writeSparklines(w, r)
}

// verdictText returns the verdict on the machine in words.
func verdictText(r *results.Run) string {
	if r.Report == nil {
		return string(r.Verdict) + ": there is no report on its state"
	}
	return string(r.Verdict)
}

func writeRunMetrics(w io.Writer, r *results.Run) error {
	fmt.Fprintln(w)
	if len(r.Metrics) == 0 {
		_, err := fmt.Fprintln(w, "No metrics.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "METRIC\tVALUE\tBETTER\tREPETITIONS")
	for _, m := range r.Metrics {
		fmt.Fprintf(table, "%s\t%.6g\t%s\t%d\n", printable(m.Name), m.Value, m.Better, m.Repetitions)
	}
	for _, name := range r.Missing {
		fmt.Fprintf(table, "%s\tnot a number\t\t\n", printable(name))
	}
	return table.Flush()
}

// writeSparklines draws the machine during a run; nothing if there are no samples.
func writeSparklines(w io.Writer, r *results.Run) error {
	lines, err := chart.Sparklines(r, sparkWidth)
	if errors.Is(err, chart.ErrNoSamples) {
		return nil
	}
	if err != nil {
		_, err = fmt.Fprintf(w, "\nThe samples cannot be drawn: %s\n", printable(err.Error()))
		return err
	}
	fmt.Fprintln(w)
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-12s %s  %s\n", l.Label, l.Text, l.Range); err != nil {
			return err
		}
	}
	return nil
}
