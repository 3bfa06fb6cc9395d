package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
)

// A Noise says how much the results of one test vary on one machine.
type Noise struct {
	Model    string           `json:"model"`
	Engine   string           `json:"engine"`
	Suite    string           `json:"suite"`
	Origin   string           `json:"origin,omitempty"` // of imported runs
	Identity results.Identity `json:"identity"`

	Made    time.Time              `json:"made"`
	Runs    []string               `json:"runs"`    // in their order, those of the warm-up included
	WarmUp  int                    `json:"warm_up"` // how many of the first runs are warm-up, and not counted
	Metrics map[string]MetricNoise `json:"metrics"`
	Omitted []Omitted              `json:"omitted,omitempty"`
	Remarks []string               `json:"remarks,omitempty"`
}

// A MetricNoise says how much one metric varies.
type MetricNoise struct {
	Mean      float64 `json:"mean"`
	SpreadPct float64 `json:"spread_pct"` // standard deviation, relative to the mean
	N         int     `json:"n"`          // runs that were counted

	// FloorPct is the noise floor: two single runs differ by less in 95% of the cases.
	// It is t * sqrt(2) * SpreadPct.
	FloorPct float64 `json:"floor_pct"`
}

// MinCalibration is the fewest runs, without warm-up, from which noise is computed.
const MinCalibration = 3

// maxSpreadPct is the largest spread that is kept.
const maxSpreadPct = 1e6

// limitPct returns how large a difference of the medians of n and m runs noise makes
// likely; nil if that cannot be said.
func (m *MetricNoise) limitPct(n1, n2 int) *float64 {
	if m.N < MinCalibration {
		return nil
	}
	return new(quantileT(1-alpha/2, float64(m.N-1)) * m.deviationPct(n1, n2))
}

// p returns how likely noise alone makes the medians of n and m runs differ by so much.
func (m *MetricNoise) p(deltaPct float64, n1, n2 int) float64 {
	deviation := m.deviationPct(n1, n2)
	return pOfT(deltaPct, deviation*deviation, float64(m.N-1))
}

// deviationPct returns the standard deviation of the difference of the medians of n and
// m runs.
func (m *MetricNoise) deviationPct(n1, n2 int) float64 {
	factor := func(n int) float64 {
		if n < 3 {
			return 1 / float64(n)
		}
		return medianError * medianError / float64(n)
	}
	return m.SpreadPct * math.Sqrt(factor(n1)+factor(n2))
}

// Calibrate computes the noise of runs of one test on one machine, which ran one after
// another and alone. Runs that are invalid or measured nothing are left out and named in
// Omitted. The error says why the runs are not of one test and machine, or that there
// are too few.
func Calibrate(runs []*results.Run) (Noise, error) {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b *results.Run) int { return a.Time().Compare(b.Time()) })
	used, omitted := usable(runs, false)
	n := Noise{Omitted: omitted, Metrics: map[string]MetricNoise{}}
	if len(used) < MinCalibration {
		return n, fmt.Errorf("there are %d usable runs, and %d are needed%s", len(used), MinCalibration, because(omitted))
	}
	first := used[0]
	n.Model, n.Engine, n.Suite, n.Origin, n.Identity = first.Model, first.Engine, first.Suite, first.Origin, first.Identity
	for _, r := range used {
		if r.Model != first.Model || r.Engine != first.Engine || r.Suite != first.Suite || r.Origin != first.Origin {
			return n, fmt.Errorf("run %s is of another test or machine than run %s", r.Name(), first.Name())
		}
		n.Runs, n.Made = append(n.Runs, r.ID), r.Time()
	}
	for _, d := range differences(used, used, nil) {
		if d.Field != FieldClocks && !d.Unknown {
			return n, fmt.Errorf("the runs differ in %s: %s", d.Field, strings.Join(d.A, ", "))
		}
	}
	series := seriesOf(used)
	n.WarmUp = warmUp(series, len(used))
	for name, values := range series {
		steady := values.from(n.WarmUp)
		if len(steady) < MinCalibration {
			continue
		}
		mean, squares := meanSquares(steady)
		m := MetricNoise{Mean: mean, N: len(steady), SpreadPct: 100 * math.Sqrt(squares/float64(len(steady)-1)) / math.Abs(mean)}
		if math.IsNaN(m.SpreadPct) || m.SpreadPct > maxSpreadPct {
			continue // around 0 nothing is relative
		}
		m.FloorPct = *m.limitPct(1, 1)
		n.Metrics[name] = m
		if twoModes(steady) {
			n.Remarks = append(n.Remarks, name+" has two modes: the runs did not all do the same")
		}
	}
	slices.Sort(n.Remarks)
	if len(n.Metrics) == 0 {
		return n, fmt.Errorf("no metric is there in %d runs after the warm-up of %d; run the test more often", MinCalibration, n.WarmUp)
	}
	return n, nil
}

// Fits reports whether n is the noise of the test and machine of r: its model, engine
// and suite are the same, and so is each field of the identity that both know.
func (n *Noise) Fits(r *results.Run) bool {
	if n.Model != r.Model || n.Engine != r.Engine || n.Suite != r.Suite || n.Origin != r.Origin {
		return false
	}
	for _, field := range relevantFields {
		if a, b := n.Identity[field], r.Identity[field]; a != "" && b != "" && a != b {
			return false
		}
	}
	return true
}

// A metricSeries holds the values of a metric by the position of their run.
type metricSeries struct {
	values []float64
	at     []int
}

// from returns the values of runs from the position given.
func (s *metricSeries) from(first int) (values []float64) {
	for i, v := range s.values {
		if s.at[i] >= first {
			values = append(values, v)
		}
	}
	return values
}

func seriesOf(runs []*results.Run) map[string]*metricSeries {
	series := map[string]*metricSeries{}
	for i, r := range runs {
		for _, m := range r.Metrics {
			s := series[m.Name]
			if s == nil {
				s = &metricSeries{}
				series[m.Name] = s
			}
			s.values, s.at = append(s.values, m.Value), append(s.at, i)
		}
	}
	return series
}

// warmUp returns how many of the first of n runs are warm-up.
func warmUp(series map[string]*metricSeries, n int) int {
	steadyFrom := n / 2
	if n-steadyFrom < MinCalibration {
		steadyFrom = n - MinCalibration
	}
	for first := range steadyFrom {
		votes, voters := 0, 0
		for _, s := range series {
			outside, known := s.outside(first, steadyFrom)
			if known {
				voters++
			}
			if outside {
				votes++
			}
		}
		if voters == 0 || 2*votes < voters {
			return first
		}
	}
	return steadyFrom
}

// outside reports whether the value of the run at a position lies outside what the
// steady runs, those from steadyFrom on, predict.
func (s *metricSeries) outside(position, steadyFrom int) (outside, known bool) {
	at := slices.Index(s.at, position)
	steady := s.from(steadyFrom)
	if at < 0 || len(steady) < MinCalibration {
		return false, false
	}
	mean, squares := meanSquares(steady)
	n := float64(len(steady))
	deviation := math.Sqrt(squares / (n - 1))
	if deviation == 0 {
		return s.values[at] != mean, s.values[at] != mean // a constant says nothing
	}
	return math.Abs(s.values[at]-mean) > quantileT(0.995, n-1)*deviation*math.Sqrt(1+1/n), true
}

func because(omitted []Omitted) string {
	if len(omitted) == 0 {
		return ""
	}
	return fmt.Sprintf("; run %s was left out because %s", omitted[0].Run, omitted[0].Why)
}

var errNoRuns = errors.New("no run is left")
