package compare

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// A plan makes the values of one pair of sets.
type plan struct {
	n      int                               // values on each side
	effect float64                           // relative difference
	noise  func(r *rand.Rand, i int) float64 // relative, of the i-th run of all
	alt    bool                              // whether the runs of both sets alternate
}

func (p plan) pair(seed uint64) (a, b []Value) {
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range 2 * p.n {
		ofB := i >= p.n
		if p.alt {
			ofB = i%2 == 1
		}
		v := Value{Value: 100 * (1 + p.noise(r, i)), Time: noon.Add(time.Duration(i) * time.Minute)}
		if ofB {
			v.Value *= 1 + p.effect
			b = append(b, v)
		} else {
			a = append(a, v)
		}
	}
	return a, b
}

func normal(spread float64) func(*rand.Rand, int) float64 {
	return func(r *rand.Rand, _ int) float64 { return spread * r.NormFloat64() }
}

// different returns how many of 1,000 pairs are called different.
func (p plan) different(noise *MetricNoise) (n int) {
	for seed := range uint64(1000) {
		a, b := p.pair(seed)
		if row := Series("tps", a, b, noise); row.Change == Different {
			n++
		}
	}
	return n
}

func twoModesOf(r *rand.Rand, _ int) float64 {
	return 0.1*float64(r.IntN(2)) + 0.005*r.NormFloat64()
}

func withOutliers(r *rand.Rand, _ int) float64 {
	if r.IntN(10) == 0 {
		return -0.3 * r.Float64()
	}
	return 0.01 * r.NormFloat64()
}

// drifting rises by 3% over 20 runs.
func drifting(r *rand.Rand, i int) float64 { return 0.03*float64(i)/20 + 0.01*r.NormFloat64() }

// Sets that don't differ are rarely called different, whatever the noise is like.
func TestAA(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]plan{
		"n=4":             {n: 4, noise: normal(0.01)},
		"n=5":             {n: 5, noise: normal(0.01)},
		"n=10":            {n: 10, noise: normal(0.01)},
		"n=30":            {n: 30, noise: normal(0.01)},
		"two modes":       {n: 10, noise: twoModesOf},
		"outliers":        {n: 10, noise: withOutliers},
		"alternate":       {n: 10, noise: normal(0.01), alt: true},
		"alternate drift": {n: 10, noise: drifting, alt: true},
		"steep drift":     {n: 10, noise: func(r *rand.Rand, i int) float64 { return 0.01*float64(i) + 0.01*r.NormFloat64() }},
		"rounded":         {n: 10, noise: func(r *rand.Rand, _ int) float64 { return 0.01 * float64(r.IntN(3)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := p.different(nil)
			t.Logf("%d of 1,000 pairs are called different", n)
			require.LessOrEqual(t, n, 50)
		})
	}
}

// A difference of three times the noise is found with ten runs each.
func TestTrueDifference(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]plan{
		"in order":  {n: 10, effect: 0.03, noise: normal(0.01)},
		"alternate": {n: 10, effect: 0.03, noise: normal(0.01), alt: true},
		"down":      {n: 10, effect: -0.03, noise: normal(0.01)},
		"outliers":  {n: 10, effect: 0.05, noise: withOutliers, alt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, noise := range []*MetricNoise{nil, {N: 10, SpreadPct: 1}} {
				n := p.different(noise)
				t.Logf("%d of 1,000 pairs are called different", n)
				least := 950
				if name == "outliers" {
					least = 900 // one value in ten lies up to 30% too low
				}
				require.GreaterOrEqual(t, n, least)
			}
		})
	}
}

// A weak drift that no test sees in ten runs still looks like a difference at times, but
// less often than without a look at it. Alternating runs avoids it.
func TestWeakDrift(t *testing.T) {
	t.Parallel()
	p := plan{n: 10, noise: drifting}
	untimed, seen := 0, p.different(nil)
	for seed := range uint64(1000) {
		a, b := p.pair(seed)
		for i := range a {
			a[i].Time, b[i].Time = time.Time{}, time.Time{}
		}
		if Series("tps", a, b, nil).Change == Different {
			untimed++
		}
	}
	t.Logf("of 1,000 pairs %d are called different, and %d without times", seen, untimed)
	require.Less(t, 2*seen, untimed)
}

func TestDriftIsNamed(t *testing.T) {
	t.Parallel()
	var a, b []Value
	for i := range 20 {
		v := Value{100 + float64(i) + 0.1*float64(i%3), noon.Add(time.Duration(i) * time.Hour)}
		if i < 10 {
			a = append(a, v)
		} else {
			b = append(b, v)
		}
	}
	row := Series("tps", a, b, nil)
	require.Equal(t, Drift, row.Change)
	require.Contains(t, row.Remarks[0], "it rises from run to run")
}

// A step without a drift is a difference, whichever set came first.
func TestStep(t *testing.T) {
	t.Parallel()
	a, b := plan{n: 10, effect: 0.1, noise: normal(0.01)}.pair(1)
	require.Equal(t, Different, Series("tps", a, b, nil).Change)
	require.Equal(t, Different, Series("tps", b, a, nil).Change)
}

func TestFewRuns(t *testing.T) {
	t.Parallel()
	at := func(values ...float64) (all []Value) {
		for i, v := range values {
			all = append(all, Value{v, noon.Add(time.Duration(i) * time.Minute)})
		}
		return all
	}
	noise := &MetricNoise{N: 10, SpreadPct: 1}
	for _, tt := range []struct {
		name  string
		a, b  []Value
		noise *MetricNoise
		want  Change
		delta string
	}{
		{"one each", at(100), at(120), nil, TooFew, "~"},
		{"three each, far apart", at(100, 101, 102), at(200, 201, 202), nil, TooFew, "~"},
		{"one each beyond the noise", at(100), at(104), noise, Different, "+4.00%"},
		{"one each within the noise", at(100), at(103), noise, WithinNoise, "~"},
		{"four each", at(100, 101, 102, 103), at(200, 201, 202, 203), nil, Different, "+98.52%"},
		{"none", at(100), nil, nil, TooFew, "~"},
		{"zero", at(0, 0, 0, 0), at(1, 1, 1, 2), nil, Different, "?"},
		{"all equal", at(7, 7, 7, 7), at(7, 7, 7, 7), nil, Same, "~"},
		{"small and surely", at(100, 100, 100, 100, 100), at(100.1, 100.1, 100.1, 100.1, 100.1), noise, WithinNoise, "+0.10%"},
	} {
		row := Series("tps", tt.a, tt.b, tt.noise)
		require.Equal(t, tt.want, row.Change, tt.name)
		require.Equal(t, tt.delta, row.Delta(), tt.name)
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	values := func(numbers ...float64) (all []Value) {
		for _, v := range numbers {
			all = append(all, Value{Value: v})
		}
		return all
	}
	e := estimate(values(1, 2, 3, 4, 5))
	require.Equal(t, Estimate{N: 5, Median: 3}, e) // five values have no interval of 95%
	e = estimate(values(6, 1, 2, 3, 4, 5))
	require.Equal(t, 3.5, e.Median)
	require.Equal(t, 1.0, *e.Low)
	require.Equal(t, 6.0, *e.High)
	require.Equal(t, 1, estimate(values(100, 101, 99, 100, 102, 50)).Outliers)
	require.True(t, estimate(values(100, 101, 100, 110, 111, 110)).TwoModes)
}

// Normal values rarely look like two groups.
func TestOneMode(t *testing.T) {
	t.Parallel()
	for _, n := range []int{6, 10, 20} {
		seen := 0
		for seed := range uint64(1000) {
			r := rand.New(rand.NewPCG(seed, 9))
			values := make([]float64, n)
			for i := range values {
				values[i] = r.NormFloat64()
			}
			if twoModes(values) {
				seen++
			}
		}
		t.Logf("n=%d: %d of 1,000", n, seen)
		require.LessOrEqual(t, seen, 50)
	}
}

func TestHolm(t *testing.T) {
	t.Parallel()
	require.InDeltaSlice(t, []float64{0.03, 0.06, 0.06, 0.02}, holm([]float64{0.01, 0.03, 0.04, 0.005}), 1e-12)
	require.Empty(t, holm(nil))
}

func TestRanks(t *testing.T) {
	t.Parallel()
	require.Equal(t, []float64{1, 3.5, 2, 3.5}, ranksOf([]float64{1, 9, 5, 9}))
}
