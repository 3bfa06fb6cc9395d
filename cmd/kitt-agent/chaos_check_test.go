package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// violation fails the test with the promise that was not kept, by its number in the
// design, and with what shows it and runs it again.
func (v *victim) violation(promise int, row kittapitest.Test, format string, args ...any) {
	v.t.Helper()
	v.t.Errorf("promise %d, %s, test %s, job %s, %s: %s\nhistory: %v, error: %q\nits log:\n%s\nagent's log:\n%s\nagain: %s",
		promise, v.name, row.ID, row.CommandID, row.Status, fmt.Sprintf(format, args...),
		row.History, row.Error, strings.Join(v.server.Lines(row.ID), "\n"), v.saidOf(row.CommandID), v.reproduce)
}

// saidOf returns what the victim's agents logged of a job.
func (v *victim) saidOf(job string) string {
	var said []string
	for _, d := range v.agents {
		for line := range strings.Lines(d.out.String()) {
			if strings.Contains(line, job) {
				said = append(said, line)
			}
		}
	}
	return strings.Join(said, "")
}

// check waits until all tests have ended, stops the agents and holds what the server
// has against what was promised.
func (v *victim) check() {
	begun := time.Now()
	ctx := v.within(3 * time.Minute)
	for _, id := range v.tests {
		if err := v.server.WaitForEnd(ctx, id); err != nil {
			row, _ := v.server.Test(id)
			v.violation(1, row, "it does not end: %v", err)
			v.t.Fatalf("agent's log:\n%s", tail(v.agents[0]))
		}
	}
	// Reports of jobs that ended while the server was away are still due.
	// A clone does not resume what was copied with it.
	require.Eventually(v.t, func() bool { return undelivered(v.agents[0]) == 0 }, 2*time.Minute, 50*time.Millisecond, "agent's log:\n%s", tail(v.agents[0]))
	for _, d := range v.agents {
		d.stop()
	}
	v.t.Logf("%s: all tests have ended %s after the last fault", v.name, time.Since(begun).Round(time.Second))
	counts := map[string]int{}
	states := v.states()
	reports := map[string]int{}
	for _, r := range v.server.Reports() {
		reports[r.CommandID]++
	}
	for _, id := range v.tests {
		row, _ := v.server.Test(id)
		counts[row.Status+" "+row.Error]++
		v.checkHistory(row)
		v.checkRuns(row)
		if v.runner == "simulated" {
			v.checkSimulated(row)
		} else {
			v.checkLines(row)
		}
		v.checkReason(row)
		if want := states[row.CommandID] == "completed"; want && reports[row.CommandID] != 1 || !want && row.Status == "completed" {
			v.violation(1, row, "it is %q here and has %d results at the server", states[row.CommandID], reports[row.CommandID])
		}
	}
	v.t.Logf("%s: %d tests%s", v.name, len(v.tests), reasons(counts))
	v.checkLeftovers()
}

// states returns the states of the agents' jobs, by their own records.
func (v *victim) states() map[string]string {
	states := map[string]string{}
	for _, d := range v.agents {
		files, err := filepath.Glob(filepath.Join(d.home, "jobs", "*", "job.json"))
		require.NoError(v.t, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(v.t, err)
			var job struct {
				State string `json:"state"`
			}
			require.NoError(v.t, json.Unmarshal(text, &job))
			// A clone has copies of jobs that went on in the first one.
			if id := filepath.Base(filepath.Dir(f)); states[id] == "" || job.State == "completed" {
				states[id] = job.State
			}
		}
	}
	return states
}

// checkRuns checks that the benchmark ran at most once.
func (v *victim) checkRuns(row kittapitest.Test) {
	runs := 0
	for _, d := range v.agents {
		marks, err := os.ReadFile(filepath.Join(d.home, "jobs", row.CommandID, "results", "runs"))
		if err == nil && !strings.Contains(d.home, "clone-") {
			runs += len(marks)
		}
	}
	if runs > 1 {
		v.violation(1, row, "it ran %d times", runs)
	}
}

var (
	numbered = regexp.MustCompile(`^line (\d+)`)
	gapNote  = regexp.MustCompile(`^(\d+) lines? .*missing here, printed from `)
)

// refusedNote ends what stands in place of a line that a proxy refused.
const refusedNote = "was refused on its way to the server. It is in the agent's log of this job)"

// mayLack returns how many lines may be missing where line is in a log.
func mayLack(line string) int {
	if m := gapNote.FindStringSubmatch(line); m != nil {
		var n int
		_, _ = fmt.Sscan(m[1], &n)
		return n
	}
	if strings.HasSuffix(line, refusedNote) {
		return 1
	}
	return 0
}

// checkLines checks that the server has the lines that the benchmark printed, up to the
// last if it ran to its end, or a note for each that it has not.
func (v *victim) checkLines(row kittapitest.Test) {
	next, lack := 0, 0
	for _, line := range v.server.Lines(row.ID) {
		m := numbered.FindStringSubmatch(line)
		if m == nil {
			lack += mayLack(line)
			continue
		}
		var n int
		_, _ = fmt.Sscan(m[1], &n)
		if n < next {
			v.violation(2, row, "line %d is twice or out of order", n)
			return
		}
		if n > next+lack {
			v.violation(2, row, "line %d is missing, and nothing says so", next+lack)
			return
		}
		next, lack = n+1, max(0, lack-(n-next))
	}
	if row.Status == "completed" && next+lack < chaosLines {
		v.violation(2, row, "the lines from %d on are missing, and nothing says so", next+lack)
	}
}

// checkSimulated does the same for a simulated run.
func (v *victim) checkSimulated(row kittapitest.Test) {
	want := v.simulatedLines(row)
	printed, lack := 0, 0
	for _, line := range v.server.Lines(row.ID) {
		if n := mayLack(line); n > 0 {
			lack += n
			continue
		}
		at := slices.Index(want[printed:min(len(want), printed+lack+1)], line)
		switch {
		case at >= 0:
			printed, lack = printed+at+1, lack-at
		case !isNote(line):
			v.violation(2, row, "%q is where %q should be", line, want[min(printed, len(want)-1)])
			return
		}
	}
	if row.Status == "completed" && printed+lack < len(want) {
		v.violation(2, row, "the lines from %q on are missing, and nothing says so", want[printed])
	}
}

// simulatedLines returns what the simulated run of a test prints: the same run
// once more.
func (v *victim) simulatedLines(row kittapitest.Test) []string {
	run, err := simulated.New(simulated.Config{Scenario: simulated.Scenario{NoMetrics: true}})
	require.NoError(v.t, err)
	var text bytes.Buffer
	_, err = run.Run(v.t.Context(), runner.Job{
		ID: row.CommandID, Model: row.Model, Engine: row.Engine, Suite: row.Suite,
		ResultsDir: filepath.Join(v.agents[0].home, "jobs", row.CommandID, "results"),
	}, runner.NewOutput(&text))
	require.NoError(v.t, err)
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

// isNote reports whether a line is one of the agent's own.
func isNote(line string) bool {
	return strings.HasSuffix(line, "; the engine fetches it") || slices.ContainsFunc([]string{
		"Agent starting benchmark: ", "Engine: ", "Model: ", "The agent was restarted", "Benchmark ", "Error: ", "Cancelled by ",
		"Machine: ", "Waiting ", "Trying ", "The disk ", "waiting for ",
	}, func(prefix string) bool { return strings.HasPrefix(line, prefix) })
}

// checkReason checks that a test that failed did so for something that was done to it.
func (v *victim) checkReason(row kittapitest.Test) {
	if row.Status != "failed" || strings.HasPrefix(row.Error, "Cancelled by ") {
		return
	}
	for _, cause := range reasonsOf {
		if cause.text.MatchString(row.Error) && slices.ContainsFunc(cause.faults, func(f string) bool { return v.suffered[f] }) {
			return
		}
	}
	v.violation(10, row, "it failed for nothing that was done to it")
}

// reasonsOf has the errors of tests that failed, with the faults that cause them.
var reasonsOf = []struct {
	text   *regexp.Regexp
	faults []string
}{
	{regexp.MustCompile(`^the agent was stopped.*, and this kind of run cannot be continued$`), []string{"kill", "stop", "full disk", "restored backup"}},
	{regexp.MustCompile(`^Exit 1$`), []string{"full disk"}}, // the benchmark's own files
	{regexp.MustCompile(`^Exit \d+: .*somebody else stopped its container, or the Docker engine was stopped$`),
		[]string{"container restarted", "container killed", "container removed", "engine restarted", "engine killed", "engine and containerd killed"}},
	{regexp.MustCompile(`^Exit \d+: .*the Docker engine was restarted, which ends its containers`), []string{"engine restarted", "engine killed", "engine and containerd killed"}},
	{regexp.MustCompile(`^the benchmark is gone: its container was removed, and not by this agent`), []string{"container removed"}},
	{regexp.MustCompile(`container is marked for removal and cannot be started$`), []string{"container removed"}},
	{regexp.MustCompile(`^there is no image kitt:latest on this machine`), []string{"image removed"}},
	{regexp.MustCompile(`^create the container: .*(?i:no such image)`), []string{"image removed"}}, // while it was about to
}

// checkHistory checks that a test ended once, and that nothing followed. A stop on
// the server may come while a status of the agent is on its way, which the server
// accepts after it: the history then has that one end more.
func (v *victim) checkHistory(row kittapitest.Test) {
	h := slices.Clone(row.History)
	if i := slices.Index(h, "failed"); v.stopped[row.ID] && i >= 0 && i < len(h)-1 {
		h = slices.Delete(h, i, i+1)
	}
	ends := 0
	for _, status := range h {
		if status == "completed" || status == "failed" {
			ends++
		}
	}
	if last := h[len(h)-1]; ends != 1 || last != "completed" && last != "failed" {
		v.violation(1, row, "it ended %d times", ends)
	}
	if n := len(slices.DeleteFunc(h, func(s string) bool { return s != "running" })); n > 1 {
		v.violation(1, row, "it was reported running %d times", n)
	}
}

// checkLeftovers checks that nothing of the victim's jobs runs.
func (v *victim) checkLeftovers() {
	for _, d := range v.agents {
		require.Empty(v.t, commandsWith(v.t, d.home), "promise 6: benchmarks are left; %s", v.reproduce)
	}
	if v.engine == nil {
		return
	}
	list, err := v.engine.Client.ContainerList(v.t.Context(), client.ContainerListOptions{})
	require.NoError(v.t, err)
	require.Empty(v.t, list.Items, "promise 6: containers are left; %s", v.reproduce)
}

// numbersOf returns the numbers of the lines that the benchmark printed.
func numbersOf(lines []string) []int {
	var numbers []int
	for _, l := range lines {
		var n int
		if m := numbered.FindStringSubmatch(l); m != nil {
			_, _ = fmt.Sscan(m[1], &n)
			numbers = append(numbers, n)
		}
	}
	return numbers
}
