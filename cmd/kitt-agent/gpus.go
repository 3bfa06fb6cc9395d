package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/internal/base"
)

// newGPUsCommand returns `kitt-agent gpus`.
func newGPUsCommand(env *environment) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "gpus",
		Short: "Show the GPUs, which job has them, and what runs on them",
		Long: `Show the GPUs of this machine as the running agent knows them: their sets, the jobs
that have them, their health, and the processes on them. MIG instances are listed like
GPUs. Sets come from gpus_per_job or gpu_sets in agent.yaml; without either, each
benchmark has all GPUs.

Without an agent, kitt-agent hardware describes the GPUs.`,
		Example: "  kitt-agent gpus\n  kitt-agent gpus --json",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, c, err := env.agentClient()
			if err != nil {
				return err
			}
			gpus, err := c.GPUs(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(gpus)
			}
			return writeGPUs(env.stdout, gpus)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// writeGPUs writes the GPUs for a person.
func writeGPUs(out io.Writer, gpus *agent.GPUs) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(gpus.Devices) == 0 {
		fmt.Fprintln(w, "No NVIDIA GPU is known.")
	} else {
		fmt.Fprint(w, "GPU\tMODEL\tNODE\tSET\tJOB\tUSE\tMEMORY\tTEMP\tHEALTH\tUUID\n")
	}
	for _, d := range gpus.Devices {
		model, node := d.Model, ""
		if d.MIG != "" {
			model += " MIG " + d.MIG
		}
		if d.NUMANode != nil {
			node = fmt.Sprint(*d.NUMANode)
		}
		set := ""
		if i := slices.IndexFunc(gpus.Sets, func(s agent.GPUSet) bool { return slices.Contains(s.Devices, d.UUID) }); i >= 0 {
			set = fmt.Sprint(i + 1)
		}
		r := d.Reading
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Index, printable(cmp.Or(model, "unknown")), node, set,
			printable(strings.Join(d.Holders, ", ")), reading("%.0f%%", r.UtilizationPct), usedMemory(r.MemoryUsedBytes), reading("%.0f °C", r.TemperatureC),
			printable(cmp.Or(d.Fault, "ok")), printable(d.UUID))
	}
	for i, s := range gpus.Sets {
		if s.Fault != "" {
			fmt.Fprintf(w, "Set %d (%s): %s\n", i+1, printable(strings.Join(s.Devices, ", ")), printable(s.Fault))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return writeGPUProcesses(out, gpus)
}

// writeGPUProcesses writes what runs on the GPUs, and the GPUs of other vendors.
func writeGPUProcesses(out io.Writer, gpus *agent.GPUs) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	seen, header := map[int]bool{}, "\nGPU\tPID\tPROCESS\tUSER\tKIND\tUSE\tMEMORY\n"
	for _, d := range gpus.Devices {
		if seen[d.Index] {
			continue // of MIG instances
		}
		seen[d.Index] = true
		for _, p := range d.Processes {
			fmt.Fprintf(w, "%s%d\t%d\t%s\t%s\t%s\t%s\t%s\n", header, p.GPU, p.PID, printable(p.Command), printable(p.Owner), printable(p.Kind),
				reading("%.0f%%", p.SMPct), usedMemory(p.MemoryBytes))
			header = ""
		}
	}
	if gpus.Processes != "" && len(gpus.Devices) > 0 {
		fmt.Fprintf(w, "\nThe processes are not known: %s\n", printable(gpus.Processes))
	}
	for _, g := range gpus.OtherGPUs {
		fmt.Fprintf(w, "\n%s\n", printable(otherGPU(g)))
	}
	return w.Flush()
}

// reading formats a figure; empty if it is not known.
func reading(format string, value *float64) string {
	if value == nil {
		return ""
	}
	return fmt.Sprintf(format, *value)
}

// usedMemory formats bytes of memory; empty if they are not known.
func usedMemory(bytes *int64) string {
	if bytes == nil {
		return ""
	}
	return base.Size(*bytes)
}
