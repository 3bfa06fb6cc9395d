package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/kittapitest"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

var (
	chaosTime   = flag.Duration("chaos.time", 0, "longest time that TestChaos breaks things; 0 for 10 s, or a minute with KITT_TEST_CHAOS=1")
	chaosRounds = flag.Int("chaos.rounds", 200, "how often TestChaos breaks something")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "what TestChaos draws its faults from; 0 for the time")
)

// TestChaos breaks things at random while jobs run in two agents, one with
// processes and one with simulated runs: an agent is killed or stopped, the
// server breaks connections, fails, hangs or loses answers, jobs are cancelled.
// Afterwards every test has ended exactly once at the server, no line of a job
// that ran to its end is missing, none is twice or out of order, and no process
// is left.
func TestChaos(t *testing.T) {
	t.Parallel()
	prog := buildProgram(t)
	limit := *chaosTime
	if limit == 0 {
		limit = 10 * time.Second
		if os.Getenv("KITT_TEST_CHAOS") != "" {
			limit = time.Minute
		}
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: go test ./cmd/kitt-agent -run TestChaos -chaos.seed=%d -chaos.rounds=%d -chaos.time=%s", seed, seed, *chaosRounds, limit)
	draw := rand.New(rand.NewPCG(seed, 1))

	var out outage
	server, err := kittapitest.NewServer(kittapitest.Config{})
	require.NoError(t, err)
	defer server.Close()
	server.SetFault(out.fault)
	victims := []*victim{
		newVictim(t, prog, server, "process"),
		newVictim(t, prog, server, "simulated", "simulated: {speed: 0.02}"),
	}
	for _, v := range victims {
		for range 3 {
			v.launch(draw)
		}
		v.daemon.start()
	}
	rounds := map[string]int{}
	until := time.Now().Add(limit)
	for range *chaosRounds {
		if time.Now().After(until) {
			break
		}
		pause(time.Duration(30+draw.IntN(300)) * time.Millisecond)
		v := victims[draw.IntN(len(victims))]
		what := v.harm(draw, &out)
		rounds[what]++
		if v.pending() < 3 {
			v.launch(draw)
		}
	}
	t.Logf("%v", rounds)
	completed := 0
	for _, v := range victims {
		v.check()
		completed += v.completedJobs()
	}
	require.Len(t, server.Results(), completed, "one result for each job that completed")
	require.Empty(t, processesOf(t, prog), "processes are left")
}

// outage makes a server misbehave for as long as it says.
type outage struct {
	kind atomic.Pointer[kittapitest.Fault]
}

func (o *outage) fault(*http.Request) kittapitest.Fault {
	if f := o.kind.Load(); f != nil {
		return *f
	}
	return kittapitest.Fault{}
}

// A victim is an agent that things are done to, and the tests that it got.
type victim struct {
	t      *testing.T
	server *kittapitest.Server
	daemon *daemon
	runner string
	name   string
	tests  []string

	stopped map[string]bool // tests that were stopped on the server
}

func newVictim(t *testing.T, prog program, server *kittapitest.Server, runner string, more ...string) *victim {
	name := "chaos-" + runner
	server.AddAgent(name)
	return &victim{t: t, server: server, runner: runner, name: name, stopped: map[string]bool{},
		daemon: newDaemonNamed(t, prog, name, server.URL, runner, more...)}
}

// chaosLines is how many lines a process prints.
const chaosLines = 120

func (v *victim) launch(draw *rand.Rand) {
	model := fmt.Sprintf("fake:lines.%d_delay.%dms", chaosLines, 1+draw.IntN(8))
	if v.runner == "simulated" {
		model = fmt.Sprintf("org/Model-%dB", 1+draw.IntN(9))
	}
	id, _, err := v.server.Launch(v.name, model)
	require.NoError(v.t, err)
	v.tests = append(v.tests, id)
}

func (v *victim) pending() int {
	n := 0
	for _, id := range v.tests {
		if row, _ := v.server.Test(id); row.Status != "completed" && row.Status != "failed" {
			n++
		}
	}
	return n
}

// harm does one thing and returns what it was.
func (v *victim) harm(draw *rand.Rand, out *outage) string {
	test := v.tests[len(v.tests)-1-draw.IntN(min(len(v.tests), 4))] // one that may not have ended
	switch draw.IntN(10) {
	case 0, 1, 2:
		v.daemon.kill()
		pause(time.Duration(draw.IntN(300)) * time.Millisecond)
		v.daemon.start()
		return "kill"
	case 3:
		v.daemon.stop()
		v.daemon.start()
		return "stop"
	case 4, 5, 6:
		faults := []kittapitest.Fault{{Reset: true}, {Status: 500}, {Status: 502}, {CutAnswer: true}, {Hang: true}}
		f := faults[draw.IntN(len(faults))]
		out.kind.Store(&f)
		pause(time.Duration(100+draw.IntN(500)) * time.Millisecond)
		out.kind.Store(nil)
		return "outage"
	case 7:
		v.daemon.command(fmt.Sprintf(`{"type":"cancel","test_id":%q}`, test))
		return "cancel"
	case 8:
		if row, _ := v.server.Test(test); row.Status == "queued" || row.Status == "dispatched" || row.Status == "running" {
			v.server.SetStatus(test, "failed", "Cancelled by user")
			v.stopped[test] = true
		}
		return "stop on the server"
	default:
		return "nothing"
	}
}

// check waits until all tests have ended, stops the agent and holds what the
// server has against what was promised.
func (v *victim) check() {
	ctx, cancel := context.WithTimeout(v.t.Context(), 2*time.Minute)
	defer cancel()
	for _, id := range v.tests {
		require.NoError(v.t, v.server.WaitForEnd(ctx, id), "agent's log:\n%s", tail(v.daemon))
	}
	// Reports of jobs that ended while the server was away are still due.
	require.Eventually(v.t, func() bool { return undelivered(v.daemon) == 0 }, time.Minute, 50*time.Millisecond, "agent's log:\n%s", tail(v.daemon))
	v.daemon.stop()

	reasons := map[string]int{}
	completed := 0
	for _, id := range v.tests {
		row, _ := v.server.Test(id)
		reasons[row.Status+" "+row.Error]++
		v.checkHistory(row)
		v.checkLines(row)
		if row.Status == "completed" {
			completed++
		}
	}
	v.t.Logf("%s: %d tests, %v", v.runner, len(v.tests), reasons)
	require.NotZero(v.t, completed, "agent's log:\n%s", tail(v.daemon))
}

// checkLines checks that the server has the lines that the benchmark printed, up
// to the last if it ran to its end.
func (v *victim) checkLines(row kittapitest.Test) {
	lines := v.server.Lines(row.ID)
	if v.runner == "process" {
		got := numbersOf(lines)
		for i, n := range got {
			require.Equal(v.t, i, n, "test %s, %s: a line is missing, twice or out of order\n%s", row.ID, row.Status, strings.Join(lines, "\n"))
		}
		if row.Status == "completed" {
			require.Len(v.t, got, chaosLines, "test %s", row.ID)
		}
		return
	}
	want := v.simulatedLines(row)
	printed := 0
	for i, line := range lines {
		switch {
		case printed < len(want) && line == want[printed]:
			printed++
		case !isNote(line):
			require.Fail(v.t, "a line is missing, twice or out of order", "test %s, %s, line %d: %q, where there should be %q\n%s",
				row.ID, row.Status, i, line, want[min(printed, len(want)-1)], strings.Join(lines, "\n"))
		}
	}
	if row.Status == "completed" {
		require.Equal(v.t, len(want), printed, "test %s:\n%s", row.ID, strings.Join(lines, "\n"))
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
		ResultsDir: filepath.Join(v.daemon.home, "jobs", row.CommandID, "results"),
	}, runner.NewOutput(&text))
	require.NoError(v.t, err)
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

// isNote reports whether a line is one of the agent's own.
func isNote(line string) bool {
	return strings.HasSuffix(line, "; the engine fetches it") || slices.ContainsFunc([]string{
		"Agent starting benchmark: ", "Engine: ", "Model: ", "The agent was restarted", "Benchmark ", "Error: ", "Cancelled by ", "Machine: ",
	}, func(prefix string) bool { return strings.HasPrefix(line, prefix) })
}

// completedJobs returns how many of the agent's jobs completed, by its own
// records: somebody may have stopped the test on the server at the last moment.
func (v *victim) completedJobs() int {
	files, err := filepath.Glob(filepath.Join(v.daemon.home, "jobs", "*", "job.json"))
	require.NoError(v.t, err)
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(v.t, err)
		var job struct {
			State string `json:"state"`
		}
		require.NoError(v.t, json.Unmarshal(text, &job))
		if job.State == "completed" {
			n++
		}
	}
	return n
}

// checkHistory checks that a test ended once, and that nothing followed. A stop on
// the server may come while a status of the agent is on its way, which the server
// accepts after it: the history then has that one end more.
func (v *victim) checkHistory(row kittapitest.Test) {
	v.t.Helper()
	h := slices.Clone(row.History)
	if i := slices.Index(h, "failed"); v.stopped[row.ID] && i >= 0 && i < len(h)-1 {
		h = slices.Delete(h, i, i+1)
	}
	require.Contains(v.t, []string{"completed", "failed"}, h[len(h)-1], "test %s: %v", row.ID, row.History)
	for _, status := range h[:len(h)-1] {
		require.NotContains(v.t, []string{"completed", "failed"}, status, "test %s: %v", row.ID, row.History)
	}
	require.LessOrEqual(v.t, len(slices.DeleteFunc(h, func(s string) bool { return s != "running" })), 1, "%v", row.History)
}

var numbered = regexp.MustCompile(`^line (\d+)`)

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
