package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kirizan/kitt-agent/agent/results"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// What a [Difference] is called that is not in a field of an identity.
const (
	FieldClocks = "clocks" // the median SM clocks
	FieldModel  = "model"  // the models' names, where their hashes are not known
)

// maxClockPct is by how much the median SM clocks of two sets may differ.
const maxClockPct = 1.0

// relevantFields are the fields of an identity in which comparable runs don't differ.
var relevantFields = []string{results.FieldGPU, results.FieldDriver, results.FieldImage, results.FieldModelHash, results.FieldPowerLimit}

// Options say how two sets of runs are compared. The zero value is the default.
type Options struct {
	// Invalid uses runs on machines that were not fit to be measured, too.
	Invalid bool

	// Allow names fields in which the sets may differ: those of [results.Identity],
	// FieldClocks, FieldModel, or "all".
	Allow []string

	// Noise are what is known of machines' noise. Of several that fit, the latest is
	// used.
	Noise []Noise
}

// A Comparison is what Runs found.
type Comparison struct {
	A       Set       `json:"a"`
	B       Set       `json:"b"`
	Omitted []Omitted `json:"omitted,omitempty"`

	// Differences are those in what was measured on. Comparable is false if one of
	// them is relevant and not allowed; then there are no rows.
	Differences []Difference `json:"differences,omitempty"`
	Comparable  bool         `json:"comparable"`

	Rows    []Row    `json:"rows"`
	Remarks []string `json:"remarks,omitempty"`
}

// A Set is one side of a comparison.
type Set struct {
	Runs       []string  `json:"runs"`
	SMClockMHz float64   `json:"sm_clock_mhz,omitempty"` // median of the runs' medians
	First      time.Time `json:"first,omitzero"`
	Last       time.Time `json:"last,omitzero"`
}

// An Omitted is a run that was not used.
type Omitted struct {
	Run string `json:"run"`
	Why string `json:"why"`
}

// A Difference is a field in which the machines of two sets, or the runs of one, differ.
type Difference struct {
	Field   string   `json:"field"`
	A       []string `json:"a"` // the different values of a set; empty texts are unknown
	B       []string `json:"b"`
	Unknown bool     `json:"unknown,omitempty"` // whether a side is not known, so that they may be the same
	Allowed bool     `json:"allowed"`           // or not relevant
}

// String returns the difference on one line.
func (d Difference) String() string {
	side := func(values []string) string {
		var shown []string
		for _, v := range values {
			shown = append(shown, cmp.Or(v, "unknown"))
		}
		return strings.Join(shown, " and ")
	}
	return fmt.Sprintf("%s: %s against %s", d.Field, side(d.A), side(d.B))
}

// Regressed returns the rows in which B is worse than A.
func (c *Comparison) Regressed() (rows []Row) {
	for _, r := range c.Rows {
		if r.Worse() {
			rows = append(rows, r)
		}
	}
	return rows
}

// Changed returns the rows in which A and B differ.
func (c *Comparison) Changed() (rows []Row) {
	for _, r := range c.Rows {
		if r.Change == Different {
			rows = append(rows, r)
		}
	}
	return rows
}

// Runs compares two sets of runs, metric by metric. Runs that are invalid, failed or
// measured nothing are left out and named in Omitted. The error says that nothing is left
// of a set, or that a run is in both.
func Runs(a, b []*results.Run, o Options) (Comparison, error) {
	var c Comparison
	if err := disjoint(a, b); err != nil {
		return c, err
	}
	a, omittedA := usable(a, o.Invalid)
	b, omittedB := usable(b, o.Invalid)
	c.Omitted = append(omittedA, omittedB...)
	for _, side := range []struct {
		runs    []*results.Run
		omitted []Omitted
		name    string
	}{{a, omittedA, "first"}, {b, omittedB, "second"}} {
		if len(side.runs) == 0 {
			return c, fmt.Errorf("%w in the %s set%s", errNoRuns, side.name, because(side.omitted))
		}
	}
	c.A, c.B = setOf(a), setOf(b)
	c.Differences = differences(a, b, o.Allow)
	c.Comparable = !slices.ContainsFunc(c.Differences, func(d Difference) bool { return !d.Allowed })
	c.Rows = []Row{}
	if c.Comparable {
		c.compare(a, b, noiseFor(a, b, o.Noise))
	}
	if n := countJudged(a) + countJudged(b); n < len(a)+len(b) {
		c.remark("%d of %d runs are not judged: nothing is known about the state of their machine", len(a)+len(b)-n, len(a)+len(b))
	}
	if few := min(len(a), len(b)); few < minTest {
		c.remark("the smaller set has %d runs; %d can show a difference, and 6 give a confidence interval", few, minTest)
	}
	return c, nil
}

// disjoint returns an error for a run that is in both sets.
func disjoint(a, b []*results.Run) error {
	for _, r := range a {
		if slices.ContainsFunc(b, func(other *results.Run) bool { return other.Name() == r.Name() }) {
			return fmt.Errorf("run %s is in both sets", r.Name())
		}
	}
	return nil
}

// usable returns the runs that can be compared, and why others cannot.
func usable(runs []*results.Run, invalid bool) (used []*results.Run, omitted []Omitted) {
	for _, r := range runs {
		why := ""
		switch {
		case !r.Completed() && !(r.Verdict == integrity.Invalid && len(r.Metrics) > 0): // integrity.on_invalid may fail such jobs
			why = "it is " + cmp.Or(r.State, "of unknown state")
		case r.Verdict == integrity.Invalid && !invalid:
			why = "the machine was not fit to be measured (" + r.Reason + ")"
		case len(r.Metrics) == 0:
			why = "it measured nothing"
		default:
			used = append(used, r)
			continue
		}
		omitted = append(omitted, Omitted{r.Name(), why})
	}
	return used, omitted
}

func countJudged(runs []*results.Run) (n int) {
	for _, r := range runs {
		if r.Report != nil {
			n++
		}
	}
	return n
}

func setOf(runs []*results.Run) (s Set) {
	for _, r := range runs {
		s.Runs = append(s.Runs, r.Name())
		at := r.Time()
		if s.First.IsZero() || at.Before(s.First) {
			s.First = at
		}
		if at.After(s.Last) {
			s.Last = at
		}
	}
	s.SMClockMHz = clock(runs)
	return s
}

// clock returns the median of the runs' median SM clocks; 0 if none is known.
func clock(runs []*results.Run) float64 {
	var clocks []float64
	for _, r := range runs {
		if mhz := r.SMClockMHz(); mhz > 0 {
			clocks = append(clocks, mhz)
		}
	}
	if len(clocks) == 0 {
		return 0
	}
	return medianOf(clocks)
}

// differences returns the fields in which the runs differ.
func differences(a, b []*results.Run, allow []string) (all []Difference) {
	fields := slices.Clone(relevantFields)
	known := map[string]bool{}
	for _, r := range slices.Concat(a, b) {
		for field := range r.Identity {
			if !slices.Contains(fields, field) {
				known[field] = true
			}
		}
	}
	further := make([]string, 0, len(known))
	for field := range known {
		further = append(further, field)
	}
	slices.Sort(further)
	for _, field := range append(fields, further...) {
		d := Difference{Field: field, A: valuesOf(a, field), B: valuesOf(b, field)}
		if len(d.A) == 1 && slices.Equal(d.A, d.B) {
			continue
		}
		// One that is known nowhere, or here and not there, is marked.
		both := withoutUnknown(append(slices.Clone(d.A), d.B...))
		d.Unknown = len(both) < 2
		relevant := slices.Contains(relevantFields, field)
		d.Allowed = d.Unknown || !relevant || slices.Contains(allow, field) || slices.Contains(allow, "all")
		all = append(all, d)
	}
	if models := modelNames(a, b, all); models != nil {
		models.Allowed = slices.Contains(allow, FieldModel) || slices.Contains(allow, "all")
		all = append(all, *models)
	}
	if x, y := clock(a), clock(b); x > 0 && y > 0 && math.Abs(y-x) > maxClockPct/100*x {
		all = append(all, Difference{
			Field: FieldClocks, A: []string{fmt.Sprintf("%.0f MHz", x)}, B: []string{fmt.Sprintf("%.0f MHz", y)},
			Allowed: slices.Contains(allow, FieldClocks) || slices.Contains(allow, "all"),
		})
	}
	return all
}

// modelNames returns the difference in the models' names, if nothing better tells the
// models apart; nil if there is none.
func modelNames(a, b []*results.Run, found []Difference) *Difference {
	names := func(runs []*results.Run) (all []string) {
		for _, r := range runs {
			all = append(all, r.Model)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	d := &Difference{Field: FieldModel, A: names(a), B: names(b)}
	byHash := valuesOf(slices.Concat(a, b), results.FieldModelHash)
	differ := slices.ContainsFunc(found, func(d Difference) bool { return d.Field == results.FieldModelHash && !d.Unknown })
	if len(d.A) == 1 && slices.Equal(d.A, d.B) || differ || len(byHash) == 1 && byHash[0] != "" {
		return nil
	}
	return d
}

// valuesOf returns the different values of a field, sorted.
func valuesOf(runs []*results.Run, field string) (values []string) {
	for _, r := range runs {
		values = append(values, r.Identity[field])
	}
	slices.Sort(values)
	return slices.Compact(values)
}

func withoutUnknown(values []string) []string {
	values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	slices.Sort(values)
	return slices.Compact(values)
}

// noiseFor returns the latest noise that fits runs of both sets; nil if there is none.
// If there is one for each set, it is that with the larger spread of a metric.
func noiseFor(a, b []*results.Run, all []Noise) func(metric string) *MetricNoise {
	latest := func(r *results.Run) (found *Noise) {
		for i := range all {
			if n := &all[i]; n.Fits(r) && (found == nil || n.Made.After(found.Made)) {
				found = n
			}
		}
		return found
	}
	of := []*Noise{latest(a[0]), latest(b[0])}
	return func(metric string) (worst *MetricNoise) {
		for _, n := range of {
			if n == nil {
				return nil
			}
			m, ok := n.Metrics[metric]
			if !ok {
				return nil
			}
			if worst == nil || m.SpreadPct > worst.SpreadPct {
				worst = &m
			}
		}
		return worst
	}
}

// A family is the rows whose p are corrected together.
type family struct {
	ps   []float64
	rows []int
}

// compare fills in the rows.
func (c *Comparison) compare(a, b []*results.Run, noise func(string) *MetricNoise) {
	better := map[string]results.Direction{}
	valuesA, valuesB := timed(a, better), timed(b, better)
	names := make([]string, 0, len(better))
	for name := range better {
		names = append(names, name)
	}
	slices.Sort(names)
	var families [2]family // rows that U judges, and those that only noise can
	for _, name := range names {
		row := newRow(name, valuesA[name], valuesB[name], noise(name))
		row.Better = better[name]
		if row.A.N > 0 && row.B.N > 0 && !constant(valuesA[name], valuesB[name]) {
			f := &families[0]
			if row.few() {
				f = &families[1]
			}
			f.ps, f.rows = append(f.ps, row.Adjusted), append(f.rows, len(c.Rows))
		}
		c.Rows = append(c.Rows, row)
	}
	for _, f := range families {
		for i, p := range holm(f.ps) {
			c.Rows[f.rows[i]].Adjusted = p
		}
	}
	byChance := 0
	for i := range c.Rows {
		r := &c.Rows[i]
		r.conclude(valuesA[r.Metric], valuesB[r.Metric])
		if r.Change == ByChance {
			byChance++
		}
	}
	if byChance > 0 {
		c.remark("%d of %d metrics differ by themselves, and not after Holm's correction for that many", byChance, len(families[0].ps)+len(families[1].ps))
	}
}

// constant reports whether all values are the same, such as a number of iterations.
func constant(a, b []Value) bool {
	for _, v := range slices.Concat(a, b) {
		if v.Value != a[0].Value {
			return false
		}
	}
	return true
}

// timed returns the values of each metric with their times.
func timed(runs []*results.Run, better map[string]results.Direction) map[string][]Value {
	values := map[string][]Value{}
	for _, r := range runs {
		for _, m := range r.Metrics {
			better[m.Name] = m.Better
			values[m.Name] = append(values[m.Name], Value{m.Value, r.Time()})
		}
	}
	return values
}

func (c *Comparison) remark(format string, args ...any) {
	c.Remarks = append(c.Remarks, fmt.Sprintf(format, args...))
}
