package compare

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// A set makes runs.
type set struct {
	name   string
	n      int
	at     time.Time
	change func(i int, r *results.Run)
	seed   uint64
}

// runs returns runs whose 30 metrics vary by 1%.
func (s set) runs() (all []*results.Run) {
	r := rand.New(rand.NewPCG(s.seed, 11))
	for i := range s.n {
		run := &results.Run{
			Summary: results.Summary{
				ID: s.name + strconv.Itoa(i), State: "completed", Model: "m", Engine: "vllm", Suite: "quick", Verdict: integrity.Valid,
				Ended: s.at.Add(time.Duration(2*i) * time.Minute),
			},
			Identity: results.Identity{
				results.FieldGPU: "NVIDIA H100", results.FieldDriver: "550", results.FieldImage: "sha256:1", results.FieldModelHash: "x", results.FieldPowerLimit: "700",
			},
			Report: reportAt(1900),
		}
		for m := range 30 {
			run.Metrics = append(run.Metrics, results.Metric{
				Name: fmt.Sprintf("bench.m%02d_tps", m), Value: 100 * (1 + 0.01*r.NormFloat64()), Better: results.Higher, Repetitions: 1,
			})
		}
		run.Metrics = append(run.Metrics, results.Metric{Name: "bench.total_iterations", Value: 5, Repetitions: 1})
		if s.change != nil {
			s.change(i, run)
		}
		all = append(all, run)
	}
	return all
}

func reportAt(mhz int) *integrity.Report {
	return &integrity.Report{Samples: integrity.Summary{GPUs: []integrity.GPUSummary{{SMClock: &integrity.ClockSummary{MedianMHz: mhz}}}}}
}

// With 30 metrics, most pairs of equal sets have one with p < 0.05. Few are called
// different.
func TestManyMetrics(t *testing.T) {
	t.Parallel()
	called, byChance := 0, 0
	for seed := range uint64(200) {
		a := set{name: "a", n: 10, at: noon, seed: 2 * seed}.runs()
		b := set{name: "b", n: 10, at: noon.Add(time.Minute), seed: 2*seed + 1}.runs()
		c, err := Runs(a, b, Options{})
		require.NoError(t, err)
		if len(c.Changed()) > 0 {
			called++
		}
		if slices.ContainsFunc(c.Rows, func(r Row) bool { return r.P < 0.05 }) {
			byChance++
		}
	}
	t.Logf("of 200 pairs %d are called different; %d have a metric with p < 0.05", called, byChance)
	require.LessOrEqual(t, called, 10)
	require.Greater(t, byChance, 100)
}

// A true difference is found among 30 metrics too.
func TestOneOfManyMetrics(t *testing.T) {
	t.Parallel()
	found := 0
	for seed := range uint64(200) {
		a := set{name: "a", n: 10, at: noon, seed: 2 * seed}.runs()
		b := set{name: "b", n: 10, at: noon.Add(time.Minute), seed: 2*seed + 1, change: func(_ int, r *results.Run) { r.Metrics[4].Value *= 0.96 }}.runs()
		c, err := Runs(a, b, Options{})
		require.NoError(t, err)
		if rows := c.Regressed(); len(rows) > 0 && rows[0].Metric == "bench.m04_tps" {
			found++
		}
	}
	t.Logf("found in %d of 200", found)
	require.GreaterOrEqual(t, found, 190)
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	a := set{name: "a", n: 5, at: noon}.runs()
	for name, tt := range map[string]struct {
		change     func(i int, r *results.Run)
		field      string
		comparable bool
		unknown    bool
	}{
		"same":          {change: func(int, *results.Run) {}, comparable: true},
		"gpu":           {change: func(_ int, r *results.Run) { r.Identity[results.FieldGPU] = "NVIDIA A100" }, field: results.FieldGPU},
		"driver":        {change: func(_ int, r *results.Run) { r.Identity[results.FieldDriver] = "570" }, field: results.FieldDriver},
		"image":         {change: func(_ int, r *results.Run) { r.Identity[results.FieldImage] = "sha256:2" }, field: results.FieldImage},
		"model":         {change: func(_ int, r *results.Run) { r.Identity[results.FieldModelHash] = "y" }, field: results.FieldModelHash},
		"power limit":   {change: func(_ int, r *results.Run) { r.Identity[results.FieldPowerLimit] = "350" }, field: results.FieldPowerLimit},
		"one of a set":  {change: func(i int, r *results.Run) { r.Identity[results.FieldDriver] = strconv.Itoa(550 + i/4) }, field: results.FieldDriver},
		"clocks":        {change: func(_ int, r *results.Run) { r.Report = reportAt(1875) }, field: FieldClocks},
		"clocks nearly": {change: func(_ int, r *results.Run) { r.Report = reportAt(1885) }, comparable: true},
		"unknown":       {change: func(_ int, r *results.Run) { delete(r.Identity, results.FieldModelHash) }, field: results.FieldModelHash, comparable: true, unknown: true},
		"model's name":  {change: func(_ int, r *results.Run) { r.Model = "m2"; delete(r.Identity, results.FieldModelHash) }, field: FieldModel},
		"renamed model": {change: func(_ int, r *results.Run) { r.Model = "m2" }, comparable: true},
		"other field":   {change: func(_ int, r *results.Run) { r.Identity["kernel"] = "6.8" }, field: "kernel", comparable: true, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := set{name: "b", n: 5, at: noon, change: tt.change}.runs()
			c, err := Runs(a, b, Options{})
			require.NoError(t, err)
			require.Equal(t, tt.comparable, c.Comparable, c.Differences)
			require.Equal(t, tt.comparable, len(c.Rows) == 31)
			if tt.field == "" {
				require.Empty(t, c.Differences)
				return
			}
			last := c.Differences[len(c.Differences)-1] // with an unknown hash, the model's name comes after it
			require.Equal(t, tt.field, last.Field)
			require.Equal(t, tt.unknown, last.Unknown)
			c, err = Runs(a, b, Options{Allow: []string{tt.field}})
			require.NoError(t, err)
			require.True(t, c.Comparable)
			require.Len(t, c.Rows, 31)
			require.NotEmpty(t, c.Differences, "an allowed difference is still said")
		})
	}
}

func TestOmitted(t *testing.T) {
	t.Parallel()
	a := set{name: "a", n: 4, at: noon, change: func(i int, r *results.Run) {
		switch i {
		case 0:
			r.Verdict, r.Reason = integrity.Invalid, "hardware thermal slowdown"
		case 1:
			r.State = "failed"
		case 2:
			r.Metrics = nil
		}
	}}.runs()
	b := set{name: "b", n: 1, at: noon, change: func(_ int, r *results.Run) { r.Report, r.Verdict = nil, results.NotJudged }}.runs()
	c, err := Runs(a, b, Options{})
	require.NoError(t, err)
	require.Equal(t, []Omitted{
		{"a0", "the machine was not fit to be measured (hardware thermal slowdown)"}, {"a1", "it is failed"}, {"a2", "it measured nothing"},
	}, c.Omitted)
	require.Equal(t, []string{"a3"}, c.A.Runs)
	require.Contains(t, c.Remarks[0], "1 of 2 runs are not judged")
	require.Contains(t, c.Remarks[1], "4 can show a difference")

	c, err = Runs(a, b, Options{Invalid: true})
	require.NoError(t, err)
	require.Equal(t, []string{"a0", "a3"}, c.A.Runs)

	_, err = Runs(a[:3], b, Options{})
	require.ErrorContains(t, err, "no run is left in the first set; run a0 was left out because the machine was not fit")
	_, err = Runs(a, a, Options{})
	require.ErrorContains(t, err, "run a0 is in both sets")
}

// What Runs returns is JSON without NaN, also for odd figures.
func TestOddFigures(t *testing.T) {
	t.Parallel()
	odd := []float64{0, 1e100, -1e100, 1e-300, 5e-324, 1}
	change := func(offset int) func(i int, r *results.Run) {
		return func(i int, r *results.Run) {
			for m := range r.Metrics {
				r.Metrics[m].Value = odd[(i*(m+1)+offset*m)%len(odd)]
			}
		}
	}
	a, b := set{name: "a", n: 7, at: noon, change: change(0)}.runs(), set{name: "b", n: 7, at: noon, change: change(1)}.runs()
	n, err := Calibrate(a)
	if err == nil {
		_, err = json.Marshal(n)
	}
	require.NoError(t, err)
	c, err := Runs(a, b, Options{Noise: []Noise{n}})
	require.NoError(t, err)
	_, err = json.Marshal(c)
	require.NoError(t, err)
}

func TestCalibrate(t *testing.T) {
	t.Parallel()
	cold := set{name: "a", n: 10, at: noon, seed: 3, change: func(i int, r *results.Run) {
		if i < 2 {
			for m := range r.Metrics[:30] {
				r.Metrics[m].Value *= 0.8
			}
		}
	}}.runs()
	n, err := Calibrate(cold)
	require.NoError(t, err)
	require.Equal(t, 2, n.WarmUp)
	require.Len(t, n.Runs, 10)
	m := n.Metrics["bench.m00_tps"]
	require.Equal(t, 8, m.N)
	require.InDelta(t, 1, m.SpreadPct, 0.6)
	require.InDelta(t, m.SpreadPct*2.3646*1.4142, m.FloorPct, 0.001) // t of 7 degrees of freedom
	require.Zero(t, n.Metrics["bench.total_iterations"].SpreadPct)

	// compare uses it, for the same test and machine alone.
	a, b := set{name: "b", n: 1, at: noon, seed: 5}.runs(), set{name: "c", n: 1, at: noon, seed: 5, change: func(_ int, r *results.Run) { r.Metrics[0].Value *= 1.3 }}.runs()
	c, err := Runs(a, b, Options{Noise: []Noise{n}})
	require.NoError(t, err)
	require.Equal(t, Different, c.Rows[0].Change)
	require.True(t, c.Rows[0].Improved())
	require.Equal(t, WithinNoise, c.Rows[1].Change)
	n.Identity[results.FieldGPU] = "NVIDIA A100"
	c, err = Runs(a, b, Options{Noise: []Noise{n}})
	require.NoError(t, err)
	require.Equal(t, TooFew, c.Rows[0].Change)
}

// Without a warm-up none is seen, as a rule.
func TestNoWarmUp(t *testing.T) {
	t.Parallel()
	seen := 0
	for seed := range uint64(200) {
		n, err := Calibrate(set{name: "a", n: 10, at: noon, seed: seed}.runs())
		require.NoError(t, err)
		if n.WarmUp > 0 {
			seen++
		}
	}
	t.Logf("in %d of 200", seen)
	require.LessOrEqual(t, seen, 10)
}

func TestCalibrateRefuses(t *testing.T) {
	t.Parallel()
	_, err := Calibrate(set{name: "a", n: 2, at: noon}.runs())
	require.ErrorContains(t, err, "there are 2 usable runs, and 3 are needed")
	_, err = Calibrate(append(set{name: "a", n: 3, at: noon}.runs(), set{name: "b", n: 3, at: noon, change: func(_ int, r *results.Run) { r.Model = "other" }}.runs()...))
	require.ErrorContains(t, err, "is of another test or machine")
	_, err = Calibrate(append(set{name: "a", n: 3, at: noon}.runs(), set{name: "b", n: 3, at: noon, change: func(_ int, r *results.Run) { r.Identity[results.FieldDriver] = "570" }}.runs()...))
	require.ErrorContains(t, err, "the runs differ in driver: 550, 570")
}

// Of single runs without a difference, few are called different, though they have 30
// metrics.
func TestNoiseOfSingleRuns(t *testing.T) {
	t.Parallel()
	called, found := 0, 0
	for seed := range uint64(200) {
		n, err := Calibrate(set{name: "n", n: 12, at: noon, seed: 3 * seed}.runs())
		require.NoError(t, err)
		a := set{name: "a", n: 1, at: noon, seed: 3*seed + 1}.runs()
		b := set{name: "b", n: 1, at: noon, seed: 3*seed + 2}.runs()
		c, err := Runs(a, b, Options{Noise: []Noise{n}})
		require.NoError(t, err)
		if len(c.Changed()) > 0 {
			called++
		}
		b[0].Metrics[7].Value *= 1.12
		c, err = Runs(a, b, Options{Noise: []Noise{n}})
		require.NoError(t, err)
		if rows := c.Changed(); len(rows) > 0 {
			found++
		}
	}
	t.Logf("of 200 pairs %d are called different, and %d with 12%% in one metric", called, found)
	require.LessOrEqual(t, called, 20)
	require.GreaterOrEqual(t, found, 190)
}
