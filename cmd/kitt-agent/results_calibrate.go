package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/internal/base"
)

// maxCalibration is the most runs of a calibration.
const maxCalibration = 100

// newResultsCalibrateCommand returns `kitt-agent results calibrate`.
func newResultsCalibrateCommand(env *environment) *cobra.Command {
	var test calibration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "calibrate --model <model> | calibrate <run>...",
		Short: "Measure how much this machine's results vary: its noise floor",
		Long: `Measure how much this machine's results vary: run one test several times, alone, and
print by how much two runs differ by chance (the noise floor). results compare, results
show and the logs of later runs use it.

The running agent runs the test; it must have no other work. Runs during which other work
came in, or the machine was not fit to be measured, are left out. First runs that differ
from all later ones are recognised as warm-up and left out too. The server gets these
results like others.

With runs in place of --model nothing is run: the noise is that of these runs, which were
measured one after another.` + selectors,
		Example: `  kitt-agent results calibrate --model qwen2.5:7b --engine vllm --runs 10
  kitt-agent results calibrate --model /models/llama --suite performance --json
  kitt-agent results calibrate model=llama,version=1.0.0,since=1d`,
		Args: func(_ *cobra.Command, args []string) error {
			const example = "kitt-agent results calibrate --model qwen2.5:7b --runs 10"
			switch {
			case (test.model == "") == (len(args) == 0):
				return usageError(example, "name a --model to run, or runs that there are")
			case test.suite != "" && test.model != "":
				return checkSuite("kitt-agent results calibrate --model qwen2.5:7b", test.suite)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if test.runs < compare.MinCalibration || test.runs > maxCalibration {
				return usageError("kitt-agent results calibrate --model qwen2.5:7b --runs 10", "--runs is %d, not from %d to %d", test.runs, compare.MinCalibration, maxCalibration)
			}
			_, store, err := env.results()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if args, err = env.runCalibration(cmd.Context(), test); err != nil {
					return err
				}
			}
			runs, err := loadRuns(cmd.Context(), store, "kitt-agent results calibrate 1111 2222 3333 4444", args)
			if err != nil {
				return err
			}
			everything, err := store.List(cmd.Context())
			if err != nil {
				return err
			}
			runs, shared := aloneOnly(runs, everything)
			noise, err := compare.Calibrate(runs)
			noise.Omitted = append(noise.Omitted, shared...)
			if err != nil {
				for _, o := range noise.Omitted {
					env.say("left out: %s, because %s", printable(o.Run), printable(o.Why))
				}
				return err
			}
			if err := baseline.Of(store).SetNoise(noise); err != nil {
				return err
			}
			if asJSON {
				return env.printJSON(noise)
			}
			return writeNoise(env.stdout, noise)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&test.model, "model", "", "run this `model`")
	flags.StringVar(&test.engine, "engine", "vllm", "with this engine")
	flags.StringVar(&test.suite, "suite", "quick", "quick, standard or performance")
	flags.StringVar(&test.mode, "mode", "", "docker or native; empty leaves it to kitt")
	flags.IntVar(&test.runs, "runs", 10, "so often, from 3 to 100")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// A calibration is a test that is run several times.
type calibration struct {
	model, engine, suite, mode string
	runs                       int
}

// runCalibration has the agent run the test, one run after another, and returns the
// runs' ids. If ctx ends, the present run is stopped.
func (env *environment) runCalibration(ctx context.Context, test calibration) (ids []string, err error) {
	cfg, err := env.config(nil)
	if err != nil {
		return nil, err
	}
	c, err := newAgentClient(cfg)
	if err != nil {
		return nil, err
	}
	status, _, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if n := working(status.Jobs); n > 0 {
		return nil, fmt.Errorf("the agent has %d jobs, and the test must run alone; wait until kitt-agent status shows none", n)
	}
	for i := range test.runs {
		begun := time.Now()
		id, err := submit(ctx, c, test)
		if err != nil {
			return nil, err
		}
		env.say("run %d of %d: job %s", i+1, test.runs, printable(id))
		end, err := awaitJob(ctx, c, id)
		if err != nil {
			return nil, err
		}
		env.say("run %d of %d: %s in %s", i+1, test.runs, printable(end.Status), span(time.Since(begun)))
		if end.Status != "completed" {
			return nil, fmt.Errorf("run %s %s%s; see: kitt-agent logs %[1]s", id, printable(end.Status), because(end.Error))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// working counts the jobs that have not ended.
func working(jobs []agent.JobStatus) (n int) {
	for _, j := range jobs {
		if !j.State.Ended() {
			n++
		}
	}
	return n
}

// submit has the agent run the test once, and returns the job's id.
func submit(ctx context.Context, c *client.Client, test calibration) (id string, err error) {
	raw, err := c.Command(ctx, client.Command{Type: agent.TypeRunTest, Payload: map[string]string{
		"model_path": test.model, "engine_name": test.engine, "suite_name": test.suite, "engine_mode": test.mode,
	}})
	if err != nil {
		return "", err
	}
	var answer struct {
		ID string `json:"command_id"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil || answer.ID == "" {
		return "", errors.New("the agent's answer names no job; update the agent")
	}
	return answer.ID, nil
}

// awaitJob waits for the end of a job, which it stops if ctx ends.
func awaitJob(ctx context.Context, c *client.Client, id string) (client.End, error) {
	end, err := c.Follow(ctx, id, func(client.Event) error { return nil })
	if ctx.Err() == nil {
		return end, err
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, err = c.Command(stopping, client.Command{ID: id, Type: agent.TypeCancel})
	return end, errors.Join(context.Cause(ctx), err)
}

// aloneOnly returns the runs during which no other run of this machine went on.
func aloneOnly(runs []*results.Run, everything []results.Summary) (alone []*results.Run, shared []compare.Omitted) {
	for _, r := range runs {
		other := slices.IndexFunc(everything, func(o results.Summary) bool {
			return o.Name() != r.Name() && o.Origin == r.Origin && !o.Started.IsZero() && !r.Started.IsZero() && !r.Ended.IsZero() &&
				o.Started.Before(r.Ended) && (o.Ended.IsZero() && !o.Completed() || o.Ended.After(r.Started))
		})
		why := ""
		switch {
		case other >= 0:
			why = "run " + everything[other].Name() + " went on at the same time"
		case r.Report != nil && len(r.Report.Neighbours) > 0:
			why = r.Report.Neighbours[0].Name + " went on at the same time"
		}
		if why != "" {
			shared = append(shared, compare.Omitted{Run: r.Name(), Why: why})
			continue
		}
		alone = append(alone, r)
	}
	return alone, shared
}

// writeNoise prints a noise floor for a person.
func writeNoise(w io.Writer, n compare.Noise) error {
	counted := len(n.Runs) - n.WarmUp
	fmt.Fprintf(w, "%s, %s, %s: %d runs counted", known(printable(n.Model)), known(printable(n.Engine)), known(printable(n.Suite)), counted)
	if n.WarmUp > 0 {
		fmt.Fprintf(w, ", the first %d are warm-up", n.WarmUp)
	}
	fmt.Fprintln(w)
	for _, o := range n.Omitted {
		fmt.Fprintf(w, "Left out: %s, because %s\n", printable(o.Run), printable(o.Why))
	}
	for _, remark := range n.Remarks {
		fmt.Fprintf(w, "Note: %s\n", printable(remark))
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "METRIC\tMEAN\tSPREAD\tNOISE FLOOR\tRUNS")
	for _, name := range slices.Sorted(maps.Keys(n.Metrics)) {
		m := n.Metrics[name]
		fmt.Fprintf(table, "%s\t%.5g\t%s\t%s\t%d\n", printable(name), m.Mean, base.Percent(m.SpreadPct), base.Percent(m.FloorPct), m.N)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nTwo single runs differ by less than the noise floor in 95% of the cases.")
	return err
}
