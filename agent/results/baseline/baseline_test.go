package baseline_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/agent/results/baseline"
	"github.com/kirizan/kitt-agent/agent/results/compare"
	"github.com/kirizan/kitt-agent/agent/results/resultstest"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// A lab is an agent's directory with runs.
type lab struct {
	t   *testing.T
	dir string
	n   int
}

// run keeps a run and returns it.
func (l *lab) run(tps float64, change func(*resultstest.Kept)) *results.Run {
	l.t.Helper()
	l.n++
	ended := noon.Add(time.Duration(l.n) * time.Hour)
	k := resultstest.Kept{
		ID: "run-" + strconv.Itoa(l.n), Ended: ended, Image: "sha256:1", Data: resultstest.Throughput(tps),
		Report: resultstest.Report(ended.Add(-time.Minute), ended, 1965, 0),
	}
	if change != nil {
		change(&k)
	}
	require.NoError(l.t, k.Write(l.dir))
	r, err := results.Read(filepath.Join(l.dir, "jobs", k.ID))
	require.NoError(l.t, err)
	return r
}

func (l *lab) file() *baseline.File { return baseline.Of(results.Open(l.dir)) }

// remarks returns what the agent's log says of a run.
func (l *lab) remarks(r *results.Run) []string {
	l.t.Helper()
	said, err := l.file().Remarks(l.t.Context(), filepath.Join(l.dir, "jobs", r.ID))
	require.NoError(l.t, err)
	return said
}

func TestPin(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, dir: t.TempDir()}
	first := l.run(100, nil)
	require.Empty(t, l.remarks(first), "no baseline")
	_, err := l.file().Pin([]*results.Run{first})
	require.NoError(t, err)
	require.Empty(t, l.remarks(first), "the baseline itself")
	require.Equal(t, []string{
		"Baseline of 2026-11-29: throughput.avg_tps is 97, 3% below 100. The noise is not known; measure it with: kitt-agent results calibrate",
	}, l.remarks(l.run(97, nil)))

	// The noise is known.
	var many []*results.Run
	for i := range 8 {
		many = append(many, l.run(100+float64(i%3), nil))
	}
	n, err := compare.Calibrate(many)
	require.NoError(t, err)
	require.NoError(t, l.file().SetNoise(n))
	require.Equal(t, []string{
		"Baseline of 2026-11-29: throughput.avg_tps is 99, 1% below 100, which is within the noise of 2.8%. No metric of 5 differs by more than noise",
	}, l.remarks(l.run(99, nil)))
	require.Equal(t, []string{
		"Baseline of 2026-11-29: throughput.avg_latency_ms is 1.25e+04, 25% above 1e+04, worse, beyond the noise of 2.8%",
		"Baseline of 2026-11-29: throughput.avg_tps is 80, 20% below 100, worse, beyond the noise of 2.8%",
	}, l.remarks(l.run(80, nil)))

	// Other machines, models and states of the machine.
	require.Empty(t, l.remarks(l.run(80, func(k *resultstest.Kept) { k.Model = "other" })))
	require.Empty(t, l.remarks(l.run(80, func(k *resultstest.Kept) { k.Image = "sha256:2" })))
	require.Empty(t, l.remarks(l.run(80, func(k *resultstest.Kept) { k.Failed, k.Data = true, nil })))
	require.Equal(t, []string{"Baseline: not compared, because the machine was not fit to be measured"}, l.remarks(l.run(80, func(k *resultstest.Kept) {
		k.Report = resultstest.Report(k.Ended.Add(-time.Minute), k.Ended, 1965, 9*time.Second)
	})))
	slow := l.remarks(l.run(80, func(k *resultstest.Kept) { k.Report = resultstest.Report(k.Ended.Add(-time.Minute), k.Ended, 1500, 0) }))
	require.Contains(t, slow[len(slow)-1], "the median SM clock is 1500 MHz and was 1965 MHz")

	// The baseline outlives its job, and a new one replaces it.
	require.NoError(t, os.RemoveAll(filepath.Join(l.dir, "jobs", first.ID)))
	_, err = l.file().Pin(many)
	require.NoError(t, err)
	all, err := l.file().Baselines()
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "qwen2.5:7b, vllm, performance, NVIDIA H100 80GB HBM3", all[0].Name())
	require.Contains(t, l.remarks(l.run(101, nil))[0], "Baseline of 2026-11-29 (8 runs): throughput.avg_tps is 101 as before")

	removed, err := l.file().Unpin([]string{"nothing"})
	require.NoError(t, err)
	require.Empty(t, removed)
	removed, err = l.file().Unpin([]string{many[3].ID})
	require.NoError(t, err)
	require.Len(t, removed, 1)
	require.Empty(t, l.remarks(l.run(101, nil)))
}

func TestPinRefuses(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, dir: t.TempDir()}
	good := l.run(100, nil)
	for want, runs := range map[string][]*results.Run{
		"from 1 to 50 runs": nil,
		"is failed":         {l.run(100, func(k *resultstest.Kept) { k.Failed, k.Data = true, nil })},
		"measured nothing":  {l.run(100, func(k *resultstest.Kept) { k.Data = nil })},
		"is invalid: hardware thermal": {l.run(100, func(k *resultstest.Kept) {
			k.Report = resultstest.Report(k.Ended.Add(-time.Minute), k.Ended, 1965, 9*time.Second)
		})},
		"is of another test or machine": {good, l.run(100, func(k *resultstest.Kept) { k.Engine = "ollama" })},
	} {
		_, err := l.file().Pin(runs)
		require.ErrorContains(t, err, want)
	}
	all, err := l.file().Baselines()
	require.NoError(t, err)
	require.Empty(t, all)
}

// A noise floor replaces one of the same test and machine alone.
func TestSetNoise(t *testing.T) {
	t.Parallel()
	f := baseline.Of(results.Open(t.TempDir()))
	for i, n := range []compare.Noise{
		{Model: "a", Identity: results.Identity{results.FieldGPU: "H100"}}, {Model: "b"}, {Model: "a", Identity: results.Identity{results.FieldGPU: "A100"}},
		{Model: "a", Identity: results.Identity{results.FieldGPU: "H100"}},
	} {
		n.WarmUp = i
		require.NoError(t, f.SetNoise(n))
	}
	all, err := f.Noise()
	require.NoError(t, err)
	var got []string
	for _, n := range all {
		got = append(got, fmt.Sprint(n.Model, n.Identity[results.FieldGPU], n.WarmUp))
	}
	require.Equal(t, []string{"aH1003", "aA1002", "b1"}, got)
}

// A broken file is named and left alone, and disturbs no list.
func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	l := &lab{t: t, dir: t.TempDir()}
	r := l.run(100, nil)
	_, err := l.file().Pin([]*results.Run{r})
	require.NoError(t, err)
	for text, want := range map[string]string{
		"{":                             "delete the file",
		`{"version":2}`:                 "a newer kitt-agent",
		strings.Repeat(" ", 33<<20):     "too large",
		`{"entries":[{"runs":[null]}]}`: "",
		`{"entries":[{}]}`:              "",
	} {
		path := filepath.Join(l.dir, "analysis", "baselines.json")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := l.file().Baselines()
		if want == "" {
			require.NoError(t, err)
			require.Empty(t, l.remarks(r))
			continue
		}
		require.ErrorContains(t, err, want)
		_, err = l.file().Remarks(context.Background(), filepath.Join(l.dir, "jobs", r.ID))
		require.ErrorContains(t, err, want)
		_, err = l.file().Pin([]*results.Run{r})
		require.ErrorContains(t, err, want)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(left))
	}
}
