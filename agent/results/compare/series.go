package compare

import (
	"fmt"
	"math"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A Change says what a comparison of one metric found.
type Change string

// The changes.
const (
	Same        Change = "same"         // p is 0.05 or more
	Different   Change = "different"    // the sets differ
	ByChance    Change = "by chance"    // as Different by itself, but not after the correction for several metrics
	WithinNoise Change = "within noise" // the difference is smaller than what the machine's noise makes likely
	Drift       Change = "drift"        // the values change over time, which explains the difference
	TooFew      Change = "too few"      // there are fewer than four values on a side, and no noise is known
)

// A Row compares one metric.
type Row struct {
	Metric string            `json:"metric"`
	Better results.Direction `json:"better,omitempty"`
	A      Estimate          `json:"a"`
	B      Estimate          `json:"b"`

	DeltaPct *float64 `json:"delta_pct"` // from A's median to B's; nil if A's is 0
	P        float64  `json:"p"`         // of the Mann–Whitney U test

	// Adjusted is P after the correction for several metrics. With fewer than four
	// values on a side it is that of the difference by the machine's noise.
	Adjusted float64 `json:"p_adjusted"`

	NoisePct *float64 `json:"noise_pct,omitempty"` // how large a difference noise makes likely; nil if unknown

	Change  Change   `json:"change"`
	Remarks []string `json:"remarks,omitempty"`
}

// Delta returns the difference as benchstat shows it: ~ if p is 0.05 or more, else in
// percent.
func (r *Row) Delta() string {
	byNoise := r.Change == Different && r.few()
	switch {
	case (r.P >= alpha || r.Change == TooFew) && !byNoise:
		return "~"
	case r.DeltaPct == nil:
		return "?"
	}
	return fmt.Sprintf("%+.2f%%", *r.DeltaPct)
}

// Worse reports whether B is worse than A, as far as it is known what is better.
func (r *Row) Worse() bool { return r.is(results.Lower, results.Higher) }

// Improved reports whether B is better than A, as far as it is known what is better.
func (r *Row) Improved() bool { return r.is(results.Higher, results.Lower) }

func (r *Row) is(ifUp, ifDown results.Direction) bool {
	if r.Change != Different {
		return false
	}
	return r.Better != "" && (r.B.Median > r.A.Median && r.Better == ifUp || r.B.Median < r.A.Median && r.Better == ifDown)
}

func (r *Row) few() bool { return min(r.A.N, r.B.N) < minTest }

// Series compares the values of one metric. noise is how much the machine varies, nil if
// that is unknown. Without a value on each side the row is [TooFew].
func Series(metric string, a, b []Value, noise *MetricNoise) Row {
	row := newRow(metric, a, b, noise)
	row.conclude(a, b)
	return row
}

// newRow computes all but what depends on other rows.
func newRow(metric string, a, b []Value, noise *MetricNoise) Row {
	row := Row{Metric: metric, P: 1, Adjusted: 1}
	if len(a) > 0 {
		row.A = estimate(a)
	}
	if len(b) > 0 {
		row.B = estimate(b)
	}
	if len(a) == 0 || len(b) == 0 {
		return row
	}
	row.P = uTest(a, b)
	row.Adjusted = row.P
	if delta := 100 * (row.B.Median - row.A.Median) / math.Abs(row.A.Median); !math.IsNaN(delta) && !math.IsInf(delta, 0) {
		row.DeltaPct = &delta
	}
	if noise != nil {
		row.NoisePct = noise.limitPct(len(a), len(b))
	}
	if row.few() && row.NoisePct != nil && row.DeltaPct != nil {
		row.Adjusted = noise.p(*row.DeltaPct, len(a), len(b))
	}
	return row
}

// conclude decides what the row's change is.
func (r *Row) conclude(a, b []Value) {
	r.Change = r.change()
	if r.Change == Different && !r.few() {
		if t, ok := fitTrend(a, b); ok && t.pSlope < alphaSlope && t.pStep >= alpha {
			r.Change = Drift
			direction := "falls"
			if t.rises {
				direction = "rises"
			}
			r.remark("it %s from run to run within the sets too, which explains the difference; alternate the runs of both sets", direction)
		}
	}
	switch {
	case r.A.N == 0 || r.B.N == 0:
		r.remark("only one set has this metric")
	case r.few() && r.Change == Different:
		r.remark("fewer than %d runs on a side: judged by the noise of %s alone", minTest, base.Percent(*r.NoisePct))
	case r.few():
		r.remark("fewer than %d runs on a side: the test cannot tell", minTest)
	}
	for _, side := range []struct {
		name string
		e    Estimate
	}{{"A", r.A}, {"B", r.B}} {
		if side.e.TwoModes {
			r.remark("%s has two modes: its runs did not all do the same", side.name)
		}
		if side.e.Outliers > 0 {
			r.remark("%s has %d outliers, which stay", side.name, side.e.Outliers)
		}
	}
}

func (r *Row) change() Change {
	exceeds := r.NoisePct != nil && r.DeltaPct != nil && math.Abs(*r.DeltaPct) > *r.NoisePct
	switch {
	case r.A.N == 0 || r.B.N == 0:
		return TooFew
	case r.few() && (r.NoisePct == nil || r.DeltaPct == nil):
		return TooFew
	case r.few() && exceeds && r.Adjusted < alpha:
		return Different
	case r.few() && exceeds:
		return ByChance
	case r.few():
		return WithinNoise
	case r.P >= alpha:
		return Same
	case r.Adjusted >= alpha:
		return ByChance
	case r.NoisePct != nil && r.DeltaPct != nil && !exceeds:
		return WithinNoise
	}
	return Different
}

func (r *Row) remark(format string, args ...any) {
	r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
}
