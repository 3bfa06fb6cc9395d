package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent/results"
)

// newResultsExportCommand returns `kitt-agent results export`.
func newResultsExportCommand(env *environment) *cobra.Command {
	var output string
	var asCSV, withoutSamples bool
	cmd := &cobra.Command{
		Use:   "export [run or condition]...",
		Short: "Write results to a file, for another machine or a spreadsheet",
		Long: `Write results to a file that results import reads on another machine, with all that is
known about the machine here. Without words it is all results. --csv writes all metrics
as a table for a spreadsheet.

The file holds names of models, the agent and the hardware, and what benchmarks wrote. It
holds no token, no log and no path of a file to write.` + selectors,
		Example: "  kitt-agent results export -o gpu-07.results\n  kitt-agent results export engine=vllm,since=7d -o vllm.results\n  kitt-agent results export --csv -o all.csv",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if output == "" {
				return usageError("kitt-agent results export -o gpu-07.results", "--output is missing; - is standard output")
			}
			cfg, store, err := env.results()
			if err != nil {
				return err
			}
			found, err := store.Find(cmd.Context(), args...)
			if found, err = selected("kitt-agent results export engine=vllm -o vllm.results", found, err); err != nil {
				return err
			}
			to := env.stdout
			if output != "-" {
				f, err := os.OpenFile(output, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, f.Close()) }()
				to = f
			}
			if asCSV {
				return store.WriteCSV(cmd.Context(), to, found)
			}
			omitted, err := store.Export(cmd.Context(), to, cfg.Name, found, !withoutSamples)
			for _, text := range omitted {
				env.say("kitt-agent: warning: left out: %s", printable(text))
			}
			if err == nil {
				env.say("%d results exported", len(found))
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "", "write to this `file`; - for standard output")
	flags.BoolVar(&asCSV, "csv", false, "write all metrics as CSV, which results import does not read")
	flags.BoolVar(&withoutSamples, "without-samples", false, "leave out the samples of clocks and power, which only pictures need")
	return cmd
}

// newResultsImportCommand returns `kitt-agent results import`.
func newResultsImportCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import <file>...",
		Short: "Read results that were exported on other machines",
		Long: `Read results that kitt-agent results export wrote on other machines, so that they are
listed, shown and compared here. They are called agent/id. A metrics.json that kitt wrote
is read too; nothing is known about its machine.

What is read twice is there once, and nothing replaces another run. What a file says
about a verdict is checked against its own counters; the figures themselves cannot be
checked, so import only from people you trust with them. Exits with 1 if some runs could
not be read; the others are imported.`,
		Example: "  kitt-agent results import gpu-07.results gpu-08.results\n  kitt-agent results import ~/kitt-results/metrics.json\n  ssh gpu-07 kitt-agent results export -o - | kitt-agent results import -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError("kitt-agent results import gpu-07.results", "the files are missing; - is standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, store, err := env.results()
			if err != nil {
				return err
			}
			reports := []importReport{}
			rejected := 0
			for _, file := range args {
				done, err := env.importFile(cmd, store, file)
				if err != nil {
					return fmt.Errorf("%s: %w", printable(file), err)
				}
				reports = append(reports, importReport{file, done})
				rejected += len(done.Rejected) + done.More
				if !asJSON {
					writeImported(env.stdout, file, done)
				}
			}
			if asJSON {
				if err := env.printJSON(reports); err != nil {
					return err
				}
			}
			if rejected > 0 {
				return fmt.Errorf("%d runs were not imported", rejected)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON list")
	return cmd
}

// importReport is what `results import --json` prints for each file.
type importReport struct {
	File string `json:"file"`
	results.Imported
}

func (env *environment) importFile(cmd *cobra.Command, store *results.Store, file string) (results.Imported, error) {
	if file == "-" {
		return store.Import(cmd.Context(), env.stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return results.Imported{}, err
	}
	defer f.Close()
	return store.Import(cmd.Context(), f)
}

func writeImported(w io.Writer, file string, done results.Imported) {
	fmt.Fprintf(w, "%s: %d results imported, %d were there already\n", printable(file), len(done.Runs), done.Known)
	for _, why := range done.Rejected {
		fmt.Fprintf(w, "  not imported: %s\n", printable(why))
	}
	if done.More > 0 {
		fmt.Fprintf(w, "  and %d more\n", done.More)
	}
}
