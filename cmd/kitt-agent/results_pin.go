package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/results/baseline"
)

// newResultsPinCommand returns `kitt-agent results pin`.
func newResultsPinCommand(env *environment) *cobra.Command {
	var asJSON, list, remove bool
	cmd := &cobra.Command{
		Use:   "pin <run>... | pin --list | pin --remove <run>...",
		Short: "Make runs the baseline of their test and machine",
		Long: `Make runs the baseline of their model, engine and suite on their kind of machine. The log
of each later run says by how much it differs from the baseline, and whether that is
noise, and so does results show. A baseline of several runs has less noise than one.

There is one baseline for each test and machine; a new one replaces it. It is a copy: it
stays when the runs are removed by age.` + selectors,
		Example: "  kitt-agent results pin 1111\n  kitt-agent results pin version=1.0.0,model=llama,verdict=valid\n  kitt-agent results pin --list\n  kitt-agent results pin --remove 1111",
		Args: func(_ *cobra.Command, args []string) error {
			if list == (len(args) > 0) || list && remove {
				return usageError("kitt-agent results pin 1111", "name the runs, or --list")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, store, err := env.results()
			if err != nil {
				return err
			}
			file := baseline.Of(store)
			var shown []baseline.Baseline
			switch {
			case list:
				shown, err = file.Baselines()
			case remove:
				shown, err = file.Unpin(args)
				if err == nil && len(shown) == 0 {
					err = fmt.Errorf("no baseline has a run %s; kitt-agent results pin --list shows them", quote(strings.Join(args, " ")))
				}
			default:
				runs, loadErr := loadRuns(cmd.Context(), store, "kitt-agent results pin 1111", args)
				if loadErr != nil {
					return loadErr
				}
				var b baseline.Baseline
				b, err = file.Pin(runs)
				shown = []baseline.Baseline{b}
			}
			if err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(append([]baseline.Baseline{}, shown...))
			}
			if remove {
				_, err = fmt.Fprintf(env.stdout, "%d baselines removed\n", len(shown))
				return err
			}
			return writeBaselines(env.stdout, shown)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&list, "list", false, "list the baselines")
	flags.BoolVar(&remove, "remove", false, "remove the baselines with these runs, which are named in full")
	flags.BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

func writeBaselines(w io.Writer, all []baseline.Baseline) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "No baselines.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BASELINE OF\tPINNED\tRUNS\tRESULT")
	for _, b := range all {
		var names []string
		for _, r := range b.Runs {
			names = append(names, r.Name())
		}
		measured := "-"
		if h := b.Runs[0].Headline; h != nil {
			measured = fmt.Sprintf("%.4g %s", h.Value, printable(h.Name))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", shorten(b.Name(), 80), localTime(b.Pinned), shortenEnd(strings.Join(names, ", "), 80), measured)
	}
	return table.Flush()
}
