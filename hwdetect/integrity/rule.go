package integrity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Limit is when a figure is a warning and when it is invalid: above the value. Nil
// is never.
type Limit struct {
	Warning *float64 `json:"warning,omitempty"`
	Invalid *float64 `json:"invalid,omitempty"`
}

// A Rule is a [Judge] that compares figures with a limit.
type Rule struct {
	Code   string // such as hw_thermal
	Unit   string // of the figures and of Limit: %, count or s
	Why    string // where the limit comes from
	Remedy string // what to do
	Limit  Limit

	// Info makes a figure above 0 a reason with the severity Info, if it is below
	// both limits.
	Info bool

	// Figures returns what the rule compares, one for each GPU or one for the host.
	Figures func(e *Evidence) []Figure
}

var _ Judge = Rule{}

// A Figure is one value that a [Rule] judges.
type Figure struct {
	GPU     *int       // nil for the host
	Value   float64    // in the rule's unit
	Share   *float64   // of the time, 0 to 1
	First   *time.Time // when it was first seen
	Last    *time.Time
	Text    string // what Value means, for the reason's text
	Unknown string // why there is no value; then the rest is not used
	AtMost  Grade  // limits the severity, if not empty
}

// Judge compares the rule's figures with its limit.
func (r Rule) Judge(e *Evidence) (v Verdict) {
	for _, f := range r.Figures(e) {
		if f.Unknown != "" {
			v.Unjudged = append(v.Unjudged, UnjudgedFigure{Code: r.Code, GPU: f.GPU, Reason: f.Unknown})
			continue
		}
		if r.Limit.Warning != nil || r.Limit.Invalid != nil {
			v.Judged++ // others can find nothing wrong
		}
		severity, limit := r.severity(f)
		if severity == Valid {
			continue
		}
		text := f.Text
		if f.GPU != nil {
			text += fmt.Sprintf(" on GPU %d", *f.GPU)
		}
		v.Reasons = append(v.Reasons, Reason{
			Code: r.Code, Severity: severity, GPU: f.GPU, Value: f.Value, Limit: limit,
			Share: f.Share, First: f.First, Last: f.Last, Text: text, Remedy: r.Remedy,
		})
	}
	return v
}

func (r Rule) severity(f Figure) (Grade, float64) {
	switch {
	case r.Limit.Invalid != nil && f.Value > *r.Limit.Invalid && f.AtMost != Warning && f.AtMost != Info:
		return Invalid, *r.Limit.Invalid
	case r.Limit.Warning != nil && f.Value > *r.Limit.Warning && f.AtMost != Info:
		return Warning, *r.Limit.Warning
	case f.AtMost == Warning && r.Limit.Invalid != nil && f.Value > *r.Limit.Invalid:
		return Warning, *r.Limit.Invalid
	case (r.Info || f.AtMost == Info) && f.Value > 0:
		return Info, 0
	}
	return Valid, 0
}

// SetLimits returns rules with the limits of some replaced, by their code. The error
// names codes that no rule has.
func SetLimits(rules []Rule, limits map[string]Limit) ([]Rule, error) {
	rules = slices.Clone(rules)
	var unknown []string
	for _, code := range slices.Sorted(maps.Keys(limits)) {
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.Code == code })
		if i < 0 {
			unknown = append(unknown, code)
			continue
		}
		rules[i].Limit = limits[code]
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("integrity: there is no rule %s", strings.Join(unknown, ", "))
	}
	return rules, nil
}

// Judges returns rules as judges.
func Judges(rules []Rule) []Judge {
	judges := make([]Judge, len(rules))
	for i, r := range rules {
		judges[i] = r
	}
	return judges
}

// DefaultRules returns the rules with their default limits, in a new slice.
func DefaultRules() []Rule {
	rules := slices.Concat(gpuCounterRules(), gpuStateRules(), gpuSampleRules(), hostRules())
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Code, b.Code) })
	return rules
}

func warnAbove(v float64) Limit    { return Limit{Warning: &v} }
func invalidAbove(v float64) Limit { return Limit{Invalid: &v} }
func limits(warning, invalid float64) Limit {
	return Limit{Warning: &warning, Invalid: &invalid}
}
