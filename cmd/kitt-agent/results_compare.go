package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/internal/base"
)

// failOns are the values of --fail-on.
var failOns = []string{"worse", "different"}

// newResultsCompareCommand returns `kitt-agent results compare`.
func newResultsCompareCommand(env *environment) *cobra.Command {
	var out outputFlags
	var o compare.Options
	var all bool
	var failOn string
	cmd := &cobra.Command{
		Use:   "compare <runs>... -- <runs>...",
		Short: "Compare two sets of runs, metric by metric",
		Long: `Compare two sets of runs, metric by metric: medians with their 95% confidence intervals,
the difference, and p of the Mann-Whitney U test. ~ means that p is 0.05 or more. With
fewer than 4 runs in a set the test cannot tell; from 6 on there is an interval. Best
alternate the runs of both sets.

Invalid runs, which were measured while the machine was not fit for it, are left out and
named. Runs whose GPU model, driver, image, model or power limit differ, or whose median
SM clocks differ by more than 1%, are not compared unless --allow says so.

If the machine's noise is known (see: kitt-agent results calibrate), a difference must be
larger than that. The statistics are explained in docs/results.md.

Exits with 6 if the sets cannot be compared. With --fail-on it exits with 5 if a metric
is worse, or different, after the correction for the number of metrics.` + selectors,
		Example: `  kitt-agent results compare 1111 2222 3333 4444 -- 5555 6666 7777 8888
  kitt-agent results compare --fail-on worse version=1.0.0,model=llama -- version=1.1.0,model=llama
  kitt-agent results compare --allow image engine=vllm,since=1d -- engine=llama_cpp,since=1d`,
		RunE: func(cmd *cobra.Command, args []string) error {
			const example = "kitt-agent results compare 1111 2222 -- 3333 4444"
			first, second, err := splitSets(cmd, args)
			if err != nil {
				return err
			}
			if failOn != "" && !slices.Contains(failOns, failOn) {
				return usageError("kitt-agent results compare --fail-on worse 1111 -- 2222", "--fail-on is %s, not worse or different", quote(failOn))
			}
			_, store, err := env.results()
			if err != nil {
				return err
			}
			var sets [2][]*results.Run
			for i, words := range [][]string{first, second} {
				if sets[i], err = loadRuns(cmd.Context(), store, example, words); err != nil {
					return err
				}
			}
			if o.Noise, err = baseline.Of(store).Noise(); err != nil {
				return err
			}
			c, err := compare.Runs(sets[0], sets[1], o)
			if err != nil {
				for _, omitted := range c.Omitted {
					env.say("left out: %s, because %s", printable(omitted.Run), printable(omitted.Why))
				}
				return &codedError{exitNotComparable, err.Error()}
			}
			switch {
			case out.json:
				err = env.printJSON(c)
			case out.csv:
				err = writeComparisonCSV(env.stdout, c)
			default:
				err = writeComparison(env.stdout, c, all)
			}
			if err != nil {
				return err
			}
			return env.conclude(c, failOn)
		},
	}
	out.add(cmd, "the comparison")
	flags := cmd.Flags()
	flags.BoolVar(&o.Invalid, "invalid", false, "use invalid runs too")
	flags.StringSliceVar(&o.Allow, "allow", nil, "compare although these `fields` differ: gpu, driver, image, model_hash, model, power_limit, clocks or all")
	flags.BoolVar(&all, "all", false, "show metrics without any difference too")
	flags.StringVar(&failOn, "fail-on", "", "exit with 5 if a metric is `worse` or different")
	flags.Lookup("fail-on").DefValue = ""
	return cmd
}

// splitSets returns the words before and after --.
func splitSets(cmd *cobra.Command, args []string) (first, second []string, err error) {
	const example = "kitt-agent results compare 1111 2222 -- 3333 4444"
	dash := cmd.ArgsLenAtDash()
	if dash < 0 && len(args) == 2 {
		dash = 1
	}
	if at := slices.IndexFunc(args, func(word string) bool { return strings.HasPrefix(word, "-") }); at >= 0 {
		return nil, nil, usageError("kitt-agent results compare --json 1111 2222 -- 3333 4444", "%s comes after --; flags come before it", quote(args[at]))
	}
	switch {
	case len(args) == 0:
		return nil, nil, usageError(example, "runs to compare are missing")
	case dash < 0:
		return nil, nil, usageError(example, "-- between both sets is missing")
	case dash == 0 || dash == len(args):
		return nil, nil, usageError(example, "the set before or after -- is empty")
	}
	return args[:dash], args[dash:], nil
}

// conclude returns the error whose exit code says what a comparison found.
func (env *environment) conclude(c compare.Comparison, failOn string) error {
	rows := c.Changed()
	if failOn == "worse" {
		rows = c.Regressed()
	}
	switch {
	case !c.Comparable:
		var fields []string
		for _, d := range c.Differences {
			if !d.Allowed {
				fields = append(fields, d.Field)
			}
		}
		return &codedError{exitNotComparable, fmt.Sprintf("the runs cannot be compared: they differ in %s\ncompare them all the same with: --allow %s",
			strings.Join(fields, ", "), strings.Join(fields, ","))}
	case failOn != "" && len(rows) > 0:
		return &codedError{exitDiffers, fmt.Sprintf("%d metrics are %s, such as %s (%s)", len(rows), failOn, printable(rows[0].Metric), rows[0].Delta())}
	}
	return nil
}

// writeComparison prints a comparison for a person.
func writeComparison(w io.Writer, c compare.Comparison, all bool) error {
	for _, side := range []struct {
		name string
		set  compare.Set
	}{{"A", c.A}, {"B", c.B}} {
		text := fmt.Sprintf("%s: %d runs, %s to %s", side.name, len(side.set.Runs), localTime(side.set.First), localTime(side.set.Last))
		if side.set.SMClockMHz > 0 {
			text += fmt.Sprintf(", SM clock %.0f MHz", side.set.SMClockMHz)
		}
		fmt.Fprintln(w, text)
	}
	for _, o := range c.Omitted {
		fmt.Fprintf(w, "Left out: %s, because %s\n", printable(o.Run), printable(o.Why))
	}
	for _, d := range c.Differences {
		word := "Differs"
		switch {
		case d.Unknown:
			word = "Not known"
		case !d.Allowed:
			word = "DIFFERS"
		}
		fmt.Fprintf(w, "%s: %s\n", word, shortenEnd(d.String(), 300))
	}
	for _, remark := range c.Remarks {
		fmt.Fprintf(w, "Note: %s\n", printable(remark))
	}
	if !c.Comparable {
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "METRIC\tA\tB\tDELTA\tP\tRESULT")
	hidden := 0
	for _, row := range c.Rows {
		if !all && row.Change == compare.Same && row.A.Median == row.B.Median && row.P == 1 {
			hidden++
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(row.Metric), estimateText(row.A), estimateText(row.B), row.Delta(), pText(row), resultText(row))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if hidden > 0 {
		fmt.Fprintf(w, "\n%d metrics without any difference are not shown; --all shows them\n", hidden)
	}
	return nil
}

// estimateText returns a median with its confidence interval, such as 100 (99 to 101).
func estimateText(e compare.Estimate) string {
	switch {
	case e.N == 0:
		return "-"
	case e.Low == nil:
		return fmt.Sprintf("%.5g ± ∞", e.Median)
	}
	return fmt.Sprintf("%.5g (%.5g to %.5g)", e.Median, *e.Low, *e.High)
}

func pText(r compare.Row) string {
	n := strconv.Itoa(r.A.N)
	if r.A.N != r.B.N {
		n += "+" + strconv.Itoa(r.B.N)
	}
	return fmt.Sprintf("p=%.3f n=%s", r.P, n)
}

// resultText says what a row means.
func resultText(r compare.Row) string {
	text := string(r.Change)
	switch {
	case r.Worse():
		text = "worse"
	case r.Improved():
		text = "better"
	case r.Change == compare.Same:
		text = ""
	case r.Change == compare.WithinNoise && r.NoisePct != nil:
		text = "within noise of " + base.Percent(*r.NoisePct)
	}
	if len(r.Remarks) > 0 {
		if text != "" {
			text += "; "
		}
		text += printable(strings.Join(r.Remarks, "; "))
	}
	return text
}

// writeComparisonCSV prints the rows as CSV.
func writeComparisonCSV(w io.Writer, c compare.Comparison) error {
	number := func(v *float64) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(*v, 'g', -1, 64)
	}
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"metric", "better", "n_a", "median_a", "low_a", "high_a", "n_b", "median_b", "low_b", "high_b", "delta_pct", "p", "p_adjusted", "noise_pct", "change", "remarks",
	})
	for _, r := range c.Rows {
		_ = out.Write([]string{
			results.Cell(r.Metric), string(r.Better), strconv.Itoa(r.A.N), number(&r.A.Median), number(r.A.Low), number(r.A.High),
			strconv.Itoa(r.B.N), number(&r.B.Median), number(r.B.Low), number(r.B.High),
			number(r.DeltaPct), number(&r.P), number(&r.Adjusted), number(r.NoisePct), string(r.Change), strings.Join(r.Remarks, "; "),
		})
	}
	out.Flush()
	return out.Error()
}
