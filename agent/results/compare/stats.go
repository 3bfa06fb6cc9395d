package compare

import (
	"math"
	"slices"
	"time"

	"github.com/aclements/go-moremath/stats"
	"golang.org/x/perf/benchmath"
)

// Levels and limits of the statistics; see the package comment.
const (
	alpha       = 0.05
	alphaSlope  = 0.1
	confidence  = 0.95
	minTest     = 4 // values on each side without which U cannot tell
	medianError = 1.2533
)

// A Value is what one run measured.
type Value struct {
	Value float64
	Time  time.Time // when the run ended; zero if unknown, and then drift is not looked for
}

// An Estimate describes the values of one set.
type Estimate struct {
	N      int      `json:"n"`
	Median float64  `json:"median"`
	Low    *float64 `json:"low"`  // of the confidence interval of 95%; nil if there are too few values
	High   *float64 `json:"high"` // likewise

	Outliers int  `json:"outliers,omitempty"`
	TwoModes bool `json:"two_modes,omitempty"` // whether the values fall in two separate groups
}

// estimate describes values, of which there is at least one.
func estimate(values []Value) Estimate {
	numbers := plain(values)
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(numbers), &thresholds), confidence)
	e := Estimate{N: len(values), Median: s.Center, Outliers: outliers(numbers), TwoModes: twoModes(numbers)}
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
		e.Low, e.High = &s.Lo, &s.Hi
	}
	return e
}

var thresholds = benchmath.Thresholds{CompareAlpha: alpha}

// uTest returns p of the Mann–Whitney U test: 1 if all values are equal.
func uTest(a, b []Value) float64 {
	return benchmath.AssumeNothing.Compare(benchmath.NewSample(plain(a), &thresholds), benchmath.NewSample(plain(b), &thresholds)).P
}

func plain(values []Value) []float64 {
	numbers := make([]float64, len(values))
	for i, v := range values {
		numbers[i] = v.Value
	}
	return numbers
}

// outliers counts values far from the median.
func outliers(values []float64) (n int) {
	const fewest, factor, limit = 5, 0.6745, 3.5
	if len(values) < fewest {
		return 0
	}
	center := medianOf(values)
	distances := make([]float64, len(values))
	for i, v := range values {
		distances[i] = math.Abs(v - center)
	}
	mad := medianOf(distances)
	if mad == 0 {
		return 0
	}
	for _, d := range distances {
		if factor*d/mad > limit {
			n++
		}
	}
	return n
}

// twoModes reports whether values fall in two groups.
func twoModes(values []float64) bool {
	const fewest, least, limit = 6, 2, 8
	n := len(values)
	if n < fewest {
		return false
	}
	sorted := slices.Sorted(slices.Values(values))
	best, distance := math.Inf(1), 0.0
	for cut := least; cut <= n-least; cut++ {
		low, lowSquares := meanSquares(sorted[:cut])
		high, highSquares := meanSquares(sorted[cut:])
		if within := lowSquares + highSquares; within < best {
			best, distance = within, high-low
		}
	}
	return distance > limit*math.Sqrt(best/float64(n-2)) && distance > 0
}

// meanSquares returns the mean and the sum of squares around it.
func meanSquares(values []float64) (mean, squares float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return mean, squares
}

func medianOf(values []float64) float64 {
	return stats.Sample{Xs: values}.Quantile(0.5)
}

// A trend is the fit of one slope and two levels to the ranks of two sets' values.
type trend struct {
	rises         bool
	pSlope, pStep float64
}

// fitTrend fits the values of two sets of which one comes before the other. ok is
// false if they alternate, or there is too little to fit.
func fitTrend(a, b []Value) (t trend, ok bool) {
	if len(a) < 3 || len(b) < 3 || !inOrder(a, b) && !inOrder(b, a) {
		return t, false
	}
	type point struct {
		Value
		second bool
	}
	points := make([]point, 0, len(a)+len(b))
	for _, v := range a {
		points = append(points, point{v, false})
	}
	for _, v := range b {
		points = append(points, point{v, true})
	}
	slices.SortStableFunc(points, func(x, y point) int { return x.Time.Compare(y.Time) })
	numbers := make([]float64, len(points))
	for i, p := range points {
		numbers[i] = p.Value.Value
	}
	ranks := ranksOf(numbers)
	var n [2]float64
	var meanX, meanY [2]float64
	side := func(p point) int {
		if p.second {
			return 1
		}
		return 0
	}
	for i, p := range points {
		g := side(p)
		n[g]++
		meanX[g] += float64(i)
		meanY[g] += ranks[i]
	}
	for g := range n {
		meanX[g] /= n[g]
		meanY[g] /= n[g]
	}
	var xx, xy, yy float64
	for i, p := range points {
		g := side(p)
		dx, dy := float64(i)-meanX[g], ranks[i]-meanY[g]
		xx, xy, yy = xx+dx*dx, xy+dx*dy, yy+dy*dy
	}
	slope := xy / xx
	t.rises = slope > 0
	freedom := n[0] + n[1] - 3
	variance := max(yy-slope*xy, 0) / freedom
	gap := meanX[1] - meanX[0]
	step := meanY[1] - meanY[0] - slope*gap
	t.pSlope = pOfT(slope, variance/xx, freedom)
	t.pStep = pOfT(step, variance*(1/n[0]+1/n[1]+gap*gap/xx), freedom)
	return t, true
}

// ranksOf returns the rank of each value, from 1; equal ones have their mean rank.
func ranksOf(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	ranks := make([]float64, len(values))
	for i, v := range values {
		first, _ := slices.BinarySearch(sorted, v)
		last := first
		for last < len(sorted) && sorted[last] == v {
			last++
		}
		ranks[i] = float64(first+1+last) / 2
	}
	return ranks
}

// inOrder reports whether all of a came before all of b, at times that are known.
func inOrder(a, b []Value) bool {
	var last time.Time
	for _, v := range a {
		if v.Time.IsZero() {
			return false
		}
		if v.Time.After(last) {
			last = v.Time
		}
	}
	for _, v := range b {
		if !v.Time.After(last) {
			return false
		}
	}
	return true
}

// pOfT returns p, two-sided, of an estimate with a variance and degrees of freedom.
func pOfT(estimate, variance, freedom float64) float64 {
	switch {
	case estimate == 0:
		return 1
	case variance == 0:
		return 0
	}
	return 2 * stats.TDist{V: freedom}.CDF(-math.Abs(estimate)/math.Sqrt(variance))
}

// quantileT returns a quantile of Student's distribution.
func quantileT(q, freedom float64) float64 {
	return stats.InvCDF(stats.TDist{V: freedom})(q)
}

// holm returns p values that are corrected for their number, in the same order.
func holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		switch {
		case ps[x] < ps[y]:
			return -1
		case ps[x] > ps[y]:
			return 1
		}
		return 0
	})
	corrected := make([]float64, len(ps))
	last := 0.0
	for rank, i := range order {
		last = max(last, min(ps[i]*float64(len(ps)-rank), 1))
		corrected[i] = last
	}
	return corrected
}
