package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/client"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/agent/standard"
	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// demo is what `kitt-agent demo` is asked for.
type demo struct {
	runner, model, suite string
	json                 bool
}

// What the demo shows: a machine that few have, at a quarter of real delays.
const (
	demoAgent   = "demo"
	demoProfile = "h100-8"
	demoSpeed   = 0.25
	demoTimeout = 10 * time.Minute
)

// demoReport is what `demo --json` prints.
type demoReport struct {
	TestID    string                    `json:"test_id"`
	CommandID string                    `json:"command_id"`
	Status    string                    `json:"status"`
	Error     string                    `json:"error"`
	LogLines  int                       `json:"log_lines"`  // that the benchmark and the agent wrote
	LostLines int                       `json:"lost_lines"` // of these, how many the server lacks
	Metrics   map[string]map[string]any `json:"metrics"`    // by test
}

// newDemoCommand returns `kitt-agent demo`.
func newDemoCommand(env *environment) *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a benchmark from end to end, without a server or hardware",
		Long: `Show a benchmark from end to end: a control plane in this process, an agent that
registers with it, one quick test that is queued, taken, run, streamed and reported.

By default the benchmark is simulated, on a machine with eight H100 GPUs. With
--runner process the local kitt command runs it, with --runner docker a container of
the image kitt:latest. Nothing is left behind.`,
		Example: "  kitt-agent demo\n  kitt-agent demo --json\n  kitt-agent demo --suite performance --model meta-llama/Llama-3.1-70B-Instruct",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"simulated", "process", "docker"}, d.runner) {
				return usageError("kitt-agent demo --runner simulated", "--runner is %s, not docker, process or simulated", quote(d.runner))
			}
			if err := checkSuite("kitt-agent demo", d.suite); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), demoTimeout)
			defer cancel()
			return env.demo(ctx, d)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&d.runner, "runner", "simulated", "what runs the benchmark: docker, process or simulated")
	flags.StringVar(&d.model, "model", "meta-llama/Llama-3.1-8B-Instruct", "`name` or path of the model")
	flags.StringVar(&d.suite, "suite", "quick", "what is measured: quick, performance or standard")
	flags.BoolVar(&d.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// demo runs the demo that d asks for.
func (env *environment) demo(ctx context.Context, d demo) (err error) {
	dir, err := os.MkdirTemp("", "kitt-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	server, err := kittapitest.NewServer(kittapitest.Config{})
	if err != nil {
		return err
	}
	defer server.Close()
	server.AddAgent(demoAgent)
	testID, commandID, err := server.Launch(demoAgent, d.model, func(t *kittapitest.Test) { t.Suite = d.suite })
	if err != nil {
		return err
	}

	say := env.stdout
	if d.json {
		say = io.Discard
	}
	run, closeRunner, err := demoRunner(d.runner)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeRunner()) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a, err := newDemoAgent(dir, server.URL, run, listener)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	agentCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(agentCtx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()

	fmt.Fprintf(say, "control plane %s, agent %s, test %s\n", server.URL, demoAgent, testID)
	if d.runner == "simulated" {
		fmt.Fprintf(say, "The benchmark is simulated at %g times real speed. Its times are the simulated machine's.\n", 1/demoSpeed)
	}
	fmt.Fprintln(say)
	lines, err := followDemo(ctx, server, listener.Addr(), testID, say)
	if err != nil {
		return err
	}
	report := newDemoReport(server, testID, commandID, lines)
	if d.json {
		err = env.printJSON(report)
	} else {
		err = writeDemo(env.stdout, report)
	}
	switch {
	case err != nil:
		return err
	case report.LostLines > 0:
		return fmt.Errorf("%d lines of the log did not reach the server", report.LostLines)
	case report.Status != "completed":
		return fmt.Errorf("the test %s: %s", report.Status, report.Error)
	}
	return writeNextSteps(say, calledAs(os.Args[0]))
}

// demoRunner returns the runner of the given name, and what closes it.
func demoRunner(name string) (runner.Runner, func() error, error) {
	if name != "simulated" {
		local, err := localRuns()
		if err != nil {
			return nil, nil, err
		}
		run, err := standard.NewRunner(standard.Config{Name: demoAgent, Kind: standard.Kind(name), Process: local})
		if err != nil {
			return nil, nil, err
		}
		return run, run.Close, nil
	}
	machine, _ := hwdetect.Profile(demoProfile)
	run, err := simulated.New(simulated.Config{
		Hardware: simulated.Hardware{
			GPU: simulated.GPU{Model: machine.GPUs[0].Model}, GPUs: len(machine.GPUs),
			CPU: machine.CPU.Model, Cores: machine.CPU.Cores, Threads: machine.CPU.Threads, RAMBytes: machine.MemoryBytes,
		},
		Speed: demoSpeed,
	})
	return run, func() error { return nil }, err
}

// newDemoAgent returns an agent of the server at url.
func newDemoAgent(dir, url string, run runner.Runner, listener net.Listener) (*agent.Agent, error) {
	api, err := kittapi.New(kittapi.Config{URL: url, Token: "demo-token"})
	if err != nil {
		return nil, err
	}
	machine, _ := hwdetect.Profile(demoProfile)
	return agent.New(agent.Config{
		Name:     demoAgent,
		Version:  thisBuild().Version,
		Dir:      dir,
		Server:   api,
		Runner:   run,
		Detector: &hwdetect.Static{Machine: machine},
		Integrity: agent.Integrity{
			Source: integrity.NewSimulated(integrity.SimulatedConfig{Machine: machine}),
		},
		GPUs:     agent.GPUNone, // the machine is made up; the one below may have none
		Listener: listener,
	})
}

// followDemo prints the log of the test as it streams from the agent, and
// returns how many lines there were once the server knows how the test ended.
func followDemo(ctx context.Context, server *kittapitest.Server, at net.Addr, testID string, out io.Writer) (int, error) {
	if err := server.WaitForStatus(ctx, testID, "running"); err != nil {
		if test, _ := server.Test(testID); test.Status != "completed" && test.Status != "failed" {
			return 0, err
		}
	}
	c, err := client.New(client.Config{URL: "http://" + at.String()})
	if err != nil {
		return 0, err
	}
	lines := 0
	_, err = c.Follow(ctx, testID, func(e client.Event) error {
		if e.Type != "log" {
			return nil
		}
		lines++
		_, err := fmt.Fprintln(out, logLine(e.Line()))
		return err
	})
	if err != nil {
		return 0, err
	}
	return lines, server.WaitForEnd(ctx, testID)
}

func newDemoReport(server *kittapitest.Server, testID, commandID string, lines int) demoReport {
	test, _ := server.Test(testID)
	r := demoReport{
		TestID: testID, CommandID: commandID, Status: test.Status, Error: test.Error,
		LogLines: lines, LostLines: max(0, lines-len(server.Lines(testID))),
		Metrics: map[string]map[string]any{},
	}
	for _, result := range server.Results() {
		tests, _ := result["results"].([]any)
		for _, each := range tests {
			one, _ := each.(map[string]any)
			name, _ := one["test_name"].(string)
			r.Metrics[name], _ = one["metrics"].(map[string]any)
		}
	}
	return r
}

// writeDemo prints the result as a small table.
func writeDemo(w io.Writer, r demoReport) error {
	if _, err := fmt.Fprintf(w, "\n%s, %d log lines, %d lost\n\n", r.Status, r.LogLines, r.LostLines); err != nil {
		return err
	}
	if len(r.Metrics) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TEST\tMETRIC\tVALUE")
	for _, test := range sortedKeys(r.Metrics) {
		writeMetrics(table, test, "", r.Metrics[test])
	}
	return table.Flush()
}

// writeMetrics prints the numbers of metrics, nested ones by their path.
func writeMetrics(w io.Writer, test, prefix string, metrics map[string]any) {
	for _, name := range sortedKeys(metrics) {
		switch v := metrics[name].(type) {
		case float64:
			fmt.Fprintf(w, "%s\t%s\t%s\n", test, prefix+name, strconv.FormatFloat(v, 'f', -1, 64))
		case map[string]any:
			writeMetrics(w, test, prefix+name+".", v)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
