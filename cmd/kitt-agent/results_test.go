package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/kittapi"
	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

// keep keeps runs id0, id1, … with these throughputs, one a minute.
func (m *machine) keep(id string, at time.Time, change func(*resultstest.Kept), tps ...float64) {
	m.t.Helper()
	for i, v := range tps {
		ended := at.Add(time.Duration(i) * 2 * time.Minute)
		k := resultstest.Kept{
			ID: fmt.Sprint(id, i), Ended: ended, Image: "sha256:1", Data: resultstest.Throughput(v),
			Report: resultstest.Report(ended.Add(-time.Minute), ended, 1965, 0), Samples: resultstest.Samples(ended.Add(-time.Minute), ended, 1965),
		}
		if change != nil {
			change(&k)
		}
		require.NoError(m.t, k.Write(m.home))
	}
}

var resultsNoon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// newLab returns a machine with sets of runs: a and b alternate and b is 3% faster, slow
// has lower clocks, and hot is invalid.
func newLab(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.write("name: gpu-07\nserver_url: http://kitt:8080\n")
	m.keep("aaa", resultsNoon, nil, 100, 101, 99, 100.5, 99.5, 100.2)
	m.keep("bbb", resultsNoon.Add(time.Minute), nil, 103, 104, 102, 103.5, 102.5, 103.2)
	m.keep("slow", resultsNoon, func(k *resultstest.Kept) { k.Report = resultstest.Report(k.Ended.Add(-time.Minute), k.Ended, 1500, 0) }, 80, 81, 79, 80)
	m.keep("hot", resultsNoon, func(k *resultstest.Kept) {
		k.Report = resultstest.Report(k.Ended.Add(-time.Minute), k.Ended, 1965, 9*time.Second)
		k.Report.PageCache = &integrity.PageCache{Files: 1, Pages: 256, Resident: 0.934}
	}, 50)
	m.keep("other", resultsNoon, func(k *resultstest.Kept) { k.Image, k.Engine = "sha256:2", "ollama" }, 60, 61, 62, 63)
	return m
}

func TestResultsList(t *testing.T) {
	t.Parallel()
	empty := newMachine(t)
	require.Equal(t, outcome{out: "No results.\n"}, empty.run("results", "list"))
	m := newLab(t)
	got := m.run("results", "list", "engine=vllm", "--limit", "2")
	require.Zero(t, got.code, got.err)
	lines := strings.Split(got.out, "\n")
	require.Contains(t, lines[1], "bbb5")
	require.Contains(t, lines[1], "103.2 throughput.avg_tps")
	require.Contains(t, got.out, "15 more; --limit shows more of them")
	require.Contains(t, m.run("results", "list", "hot").out, "invalid: hardware thermal slowdown")

	var list []results.Summary
	got = m.run("results", "list", "verdict=valid", "--json")
	require.NoError(t, json.Unmarshal([]byte(got.out), &list))
	require.Len(t, list, 20)
	rows, err := csv.NewReader(strings.NewReader(m.run("results", "list", "--csv").out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 22)

	for want, args := range map[string][]string{
		"there is no condition":       {"list", "color=red"},
		"beginning of several ids":    {"list", "aaa"},
		"--limit is -1":               {"list", "--limit", "-1"},
		"exclude each other":          {"list", "--json", "--csv"},
		"-- between both sets":        {"compare", "aaa0", "aaa1", "bbb0"},
		"runs to compare are missing": {"compare"},
		"the set before or after --":  {"compare", "aaa0", "--"},
		"flags come before it":        {"compare", "aaa0", "--", "bbb0", "--json"},
		"--fail-on is":                {"compare", "aaa0", "bbb0", "--fail-on", "never"},
		"name the runs, or --list":    {"pin"},
		"--output is missing":         {"export"},
		"the files are missing":       {"import"},
		"name a --model to run":       {"calibrate"},
		"--runs is 1":                 {"calibrate", "--model", "m", "--runs", "1"},
	} {
		got := m.run(append([]string{"results"}, args...)...)
		require.Equal(t, exitUsage, got.code, args)
		require.Contains(t, got.err, want)
		require.Contains(t, got.err, "try: kitt-agent results ")
	}
	got = m.run("results", "show", "zzz")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "there is no such run")
}

func TestResultsShow(t *testing.T) {
	t.Parallel()
	require.Contains(t, newMachine(t).run("results", "show").err, "there are no results yet")
	m := newLab(t)
	got := m.run("results", "show", "hot")
	require.Zero(t, got.code, got.err)
	for _, want := range []string{
		"Model", "qwen2.5:7b", "NVIDIA H100 80GB HBM3", "36 kJ, at most 6 J per token (6000 tokens", "invalid: hardware thermal slowdown for",
		"improve the cooling", "93% in memory", "throughput.avg_tps", "SM clock", "█", "345 to 1970 MHz",
	} {
		require.Contains(t, got.out, want)
	}
	require.Contains(t, m.run("results", "show").out, "bbb5", "the newest")
	rows, err := csv.NewReader(strings.NewReader(m.run("results", "show", "hot", "--csv").out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 6)
	var run results.Run
	require.NoError(t, json.Unmarshal([]byte(m.run("results", "show", "hot", "--json").out), &run))
	require.Equal(t, "invalid", string(run.Report.Verdict.Grade))

	svg := filepath.Join(t.TempDir(), "run.svg")
	got = m.run("results", "show", "hot", "--svg", svg)
	require.Zero(t, got.code, got.err)
	text, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "<svg "))
	require.Equal(t, string(text), m.run("results", "show", "hot", "--svg", "-").out)

	require.NoError(t, resultstest.Kept{ID: "bare", Ended: resultsNoon, Data: resultstest.Throughput(1)}.Write(m.home))
	got = m.run("results", "show", "bare", "--svg", svg+"2")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "has no samples")
	require.NoFileExists(t, svg+"2")
	require.Contains(t, m.run("results", "show", "bare").out, "not judged: there is no report")
}

func TestResultsCompare(t *testing.T) {
	t.Parallel()
	m := newLab(t)
	a, b := []string{"aaa0", "aaa1", "aaa2", "aaa3", "aaa4", "aaa5"}, []string{"bbb0", "bbb1", "bbb2", "bbb3", "bbb4", "bbb5"}
	line := func(first, second []string, more ...string) outcome {
		args := append([]string{"results", "compare"}, more...)
		return m.run(append(append(append(args, first...), "--"), second...)...)
	}
	got := line(a, b)
	require.Zero(t, got.code, got.err)
	require.Regexp(t, `throughput.avg_tps +100.1 \(99 to 101\) +103.1 \(102 to 104\) +\+3.00% +p=0.002 n=6 +better`, got.out)
	require.Regexp(t, `throughput.avg_latency_ms .* -2.91% .* better`, got.out)
	require.Contains(t, got.out, "metrics without any difference are not shown")
	require.Contains(t, line(a, b, "--all").out, "throughput.total_iterations")

	require.Equal(t, exitOK, line(a, b, "--fail-on", "worse").code)
	got = line(b, a, "--fail-on", "worse")
	require.Equal(t, exitDiffers, got.code)
	require.Contains(t, got.err, "2 metrics are worse")
	require.Equal(t, exitDiffers, line(a, b, "--fail-on", "different").code)
	require.Equal(t, exitOK, line(a[:3], a[3:], "--fail-on", "different").code)
	require.Contains(t, line(a[:3], a[3:]).out, "the test cannot tell")

	got = line(a, []string{"slow0", "slow1", "slow2", "slow3"})
	require.Equal(t, exitNotComparable, got.code)
	require.Contains(t, got.out, "DIFFERS: clocks: 1965 MHz against 1500 MHz")
	require.Contains(t, got.err, "they differ in clocks\nkitt-agent: compare them all the same with: --allow clocks")
	require.Zero(t, line(a, []string{"slow0", "slow1", "slow2", "slow3"}, "--allow", "clocks").code)
	got = line([]string{"engine=vllm,verdict=valid,since=2026-11-29"}, []string{"engine=ollama"}, "--allow", "image,clocks")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "Differs: image: sha256:1 against sha256:2")

	got = line(append(a, "hot0"), b)
	require.Contains(t, got.out, "Left out: hot0, because the machine was not fit to be measured (hardware thermal slowdown")
	require.NotContains(t, line(append(a, "hot0"), b, "--invalid").out, "Left out")
	got = line([]string{"hot0"}, b)
	require.Equal(t, exitNotComparable, got.code)
	require.Contains(t, got.err, "no run is left in the first set")

	var c compare.Comparison
	require.NoError(t, json.Unmarshal([]byte(line(a, b, "--json").out), &c))
	require.Len(t, c.Changed(), 2)
	rows, err := csv.NewReader(strings.NewReader(line(a, b, "--csv").out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 6)
	require.Zero(t, m.run("results", "compare", "aaa0", "bbb0").code, "two single runs need no --")
}

func TestResultsPin(t *testing.T) {
	t.Parallel()
	m := newLab(t)
	require.Equal(t, "No baselines.\n", m.run("results", "pin", "--list").out)
	got := m.run("results", "pin", "aaa0", "aaa1")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "aaa0, aaa1")
	require.Contains(t, m.run("results", "show", "bbb0").out, "Baseline of 2026-11-29 (2 runs): throughput.avg_tps is 103")
	var all []baseline.Baseline
	require.NoError(t, json.Unmarshal([]byte(m.run("results", "pin", "--list", "--json").out), &all))
	require.Len(t, all, 1)
	require.Contains(t, m.run("results", "pin", "hot0").err, "run hot0 is invalid")
	require.Contains(t, m.run("results", "pin", "--remove", "nothing").err, "no baseline has a run")
	require.Equal(t, "1 baselines removed\n", m.run("results", "pin", "--remove", "aaa1").out)
}

func TestResultsTransfer(t *testing.T) {
	t.Parallel()
	here, there := newLab(t), newMachine(t)
	file := filepath.Join(t.TempDir(), "gpu-07.results")
	got := here.run("results", "export", "engine=vllm", "-o", file)
	require.Zero(t, got.code, got.err)
	require.Equal(t, "17 results exported\n", got.err)
	got = there.run("results", "import", file)
	require.Zero(t, got.code, got.err)
	require.Equal(t, file+": 17 results imported, 0 were there already\n", got.out)
	require.Contains(t, there.run("results", "list").out, "gpu-07/bbb5")
	require.Contains(t, there.run("results", "show", "gpu-07/hot0").out, "345 to 1970 MHz")
	there.keep("own", resultsNoon, nil, 200, 201, 202, 203)
	got = there.run("results", "compare", "--allow", "clocks", "origin=gpu-07,verdict=valid", "--", "origin=")
	require.Zero(t, got.code, got.err)

	piped := here.run("results", "export", "-o", "-")
	third := newMachine(t)
	third.in = strings.NewReader(piped.out)
	require.Contains(t, third.run("results", "import", "-").out, "21 results imported")

	require.NoError(t, os.WriteFile(file, []byte(`{"schema":"kitt-agent/results-export/1"}`+"\n"+`{"run":{"id":"../x","state":"completed"},"result_data":{"a":1}}`+"\n"), 0o600))
	got = third.run("results", "import", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.out, `not imported: line 2: "../x" is not an id`)
	rows, err := csv.NewReader(strings.NewReader(here.run("results", "export", "--csv", "-o", "-", "aaa0", "aaa1").out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 11)
}

// runs runs an agent with simulated benchmarks until the test ends. Its logs have remarks
// on baselines.
func (a *testedAgent) runSimulated(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	require.NoError(t, err)
	benchmarks, err := simulated.New(simulated.Config{})
	require.NoError(t, err)
	api, err := kittapi.New(kittapi.Config{URL: a.server.URL})
	require.NoError(t, err)
	built, err := agent.New(agent.Config{
		Name: "gpu-01", Dir: a.home, Server: api, Runner: benchmarks, Listener: listener, Remarks: baseline.Of(results.Open(a.home)).Remarks,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- built.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// A calibration runs a test several times on a running agent. A baseline is then
// mentioned in the log of the next run.
func TestResultsCalibrate(t *testing.T) {
	t.Parallel()
	a := newTestedAgent(t)
	calibrate := []string{"results", "calibrate", "--model", "qwen2.5:7b", "--suite", "quick", "--runs", "6"}
	out, code := a.command(t, calibrate...)
	require.Equal(t, exitNotRunning, code, out)
	a.runSimulated(t)
	out, code = a.command(t, calibrate...)
	require.Zero(t, code, out)
	require.Contains(t, out, "run 6 of 6: completed in")
	require.Contains(t, out, "qwen2.5:7b, vllm, quick: ")
	require.Regexp(t, `throughput.avg_tps +\S+ +\S+% +\S+% +\d`, out)
	require.Contains(t, out, "Two single runs differ by less than the noise floor")

	runs, err := results.Open(a.home).List(t.Context())
	require.NoError(t, err)
	require.Len(t, runs, 6)
	out, code = a.command(t, "results", "pin", runs[0].ID)
	require.Zero(t, code, out)
	out, code = a.command(t, append(calibrate[:len(calibrate)-1:len(calibrate)-1], "3", "--json")...)
	require.Zero(t, code, out)
	newest, err := results.Open(a.home).List(t.Context())
	require.NoError(t, err)
	out, code = a.command(t, "logs", newest[0].ID)
	require.Zero(t, code, out)
	require.Contains(t, out, "Baseline of ")
	require.Contains(t, out, "noise of")

	// From runs that there are.
	out, code = a.command(t, "results", "calibrate", "model=qwen", "--json")
	require.Zero(t, code, out)
	var n compare.Noise
	require.NoError(t, json.Unmarshal([]byte(out), &n))
	require.Len(t, n.Runs, 9)
}

// A calibration runs alone: it does not begin while there is work, and leaves out runs
// during which other work went on.
func TestCalibrationIsAlone(t *testing.T) {
	t.Parallel()
	a := newTestedAgent(t)
	id, _, err := a.server.Launch("gpu-01", "qwen2.5:7b")
	require.NoError(t, err)
	a.run(t) // benchmarks that hang
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, a.server.WaitForStatus(ctx, id, "running"))
	out, code := a.command(t, "results", "calibrate", "--model", "qwen2.5:7b")
	require.Equal(t, exitFailure, code)
	require.Contains(t, out, "the agent has 1 jobs, and the test must run alone")
	out, code = a.command(t, "test", "stop", id)
	require.Zero(t, code, out)

	m := newMachine(t)
	m.keep("x", resultsNoon, nil, 100, 101, 102, 103, 104)
	require.NoError(t, resultstest.Kept{ID: "y", Ended: resultsNoon.Add(90 * time.Second), Took: time.Minute, Data: resultstest.Throughput(1), Model: "n"}.Write(m.home))
	got := m.run("results", "calibrate", "model=qwen")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "Left out: x1, because run y went on at the same time")
	require.Contains(t, got.out, "4 runs counted")
	got = m.run("results", "calibrate", "x0", "x1", "x2")
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "there are 2 usable runs, and 3 are needed")
}

// onText calls do when a text is written.
type onText struct {
	text string
	do   func()
}

func (o onText) Write(p []byte) (int, error) {
	if strings.Contains(string(p), o.text) {
		o.do()
	}
	return len(p), nil
}

// Somebody who interrupts a calibration leaves no benchmark behind.
func TestCalibrationIsInterrupted(t *testing.T) {
	t.Parallel()
	a := newTestedAgent(t)
	a.run(t) // benchmarks that hang
	ctx, cancel := context.WithCancel(t.Context())
	env := &environment{stdout: io.Discard, stderr: onText{"run 1 of 10: job ", cancel}, getenv: func(name string) string {
		return map[string]string{"KITT_HOME": a.home}[name]
	}}
	require.Equal(t, exitFailure, env.run(ctx, []string{"results", "calibrate", "--model", "qwen2.5:7b"}))
	runs, err := results.Open(a.home).List(t.Context())
	require.NoError(t, err)
	require.Len(t, runs, 1)
	require.Equal(t, "cancelled", runs[0].State)
}

// So many runs that their figures don't belong into memory at once are refused, and can
// be listed and exported all the same.
func TestResultsOfManyRuns(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := filepath.Join(m.home, "analysis", "imported")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for i := range maxLoaded + 1 {
		run := fmt.Sprintf(`{"run":{"id":"r%d","origin":"gpu-07","state":"completed","ended":"2026-11-29T12:00:00Z"},"result_data":{"tps":3}}`, i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.json", i)), []byte(run), 0o600))
	}
	for _, args := range [][]string{{"compare", "origin=gpu-07", "--", "gpu-07/r1"}, {"pin", "origin=gpu-07"}, {"calibrate", "origin=gpu-07"}} {
		got := m.run(append([]string{"results"}, args...)...)
		require.Equal(t, exitFailure, got.code, args)
		require.Contains(t, got.err, "these are 1001 runs, and at most 1000 can be used at once")
	}
	rows, err := csv.NewReader(strings.NewReader(m.run("results", "export", "--csv", "-o", "-").out)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, maxLoaded+2)
}

// The agent that the program starts holds new runs against the baseline.
func TestTheAgentKnowsBaselines(t *testing.T) {
	t.Parallel()
	m := newLab(t)
	require.Zero(t, m.run("results", "pin", "aaa0").code)
	getenv := func(name string) string { return map[string]string{"HOME": m.home, "KITT_HOME": m.home}[name] }
	env := &environment{getenv: getenv, stderr: io.Discard}
	cfg, err := env.config(nil)
	require.NoError(t, err)
	composed, closer, err := env.compose(cfg, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	defer closer.Close()
	said, err := composed.Remarks(t.Context(), filepath.Join(m.home, "jobs", "bbb0"))
	require.NoError(t, err)
	require.Contains(t, strings.Join(said, "\n"), "Baseline of 2026-11-29: throughput.avg_tps is 103, 3% above 100")
}
