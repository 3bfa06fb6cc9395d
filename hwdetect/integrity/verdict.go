package integrity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Grade is how fit the machine was. As a reason's severity it is Info, Warning or
// Invalid.
type Grade string

// The grades, from the best to the worst. Info is only a reason's severity.
const (
	Valid    Grade = "valid"
	Info     Grade = "info"
	Unjudged Grade = "unjudged" // nothing that matters could be read
	Warning  Grade = "warning"
	Invalid  Grade = "invalid"
)

func (g Grade) rank() int { return slices.Index([]Grade{Valid, Info, Unjudged, Warning, Invalid}, g) }

// MaxReasons is the most reasons of a verdict. The worst are kept.
const MaxReasons = 256

// A Reason is one finding about the machine.
type Reason struct {
	Code     string     `json:"code"`             // such as hw_thermal
	Severity Grade      `json:"severity"`         // Info, Warning or Invalid
	GPU      *int       `json:"gpu,omitempty"`    // index; nil for the host
	Value    float64    `json:"value"`            // in the unit of the code's [Rule]
	Limit    float64    `json:"limit"`            // the one that Value exceeds
	Share    *float64   `json:"share,omitempty"`  // of the time, 0 to 1
	First    *time.Time `json:"first,omitempty"`  // when it was first seen
	Last     *time.Time `json:"last,omitempty"`   // when it was last seen
	Text     string     `json:"text"`             // a phrase without a full stop
	Remedy   string     `json:"remedy,omitempty"` // what to do
}

// An UnjudgedFigure is what could not be judged.
type UnjudgedFigure struct {
	Code   string `json:"code"`
	GPU    *int   `json:"gpu,omitempty"`
	Reason string `json:"reason"`
}

// A Verdict says whether the machine was fit to be measured.
type Verdict struct {
	Grade    Grade            `json:"verdict"`
	Reasons  []Reason         `json:"reasons"`            // the worst first
	Unjudged []UnjudgedFigure `json:"unjudged,omitempty"` // neither good nor bad
	Judged   int              `json:"judged"`             // figures that were judged
}

// Line returns the verdict on one line, such as
// "Machine: INVALID - hardware thermal slowdown for 7.2% of 312 s on GPU 3".
func (v Verdict) Line() string {
	switch {
	case len(v.Reasons) > 0 && v.Reasons[0].Severity.rank() >= Warning.rank():
		first := v.Reasons[0]
		line := fmt.Sprintf("Machine: %s - %s", strings.ToUpper(string(v.Grade)), first.Text)
		if more := v.count(first.Severity) - 1; more > 0 {
			line += fmt.Sprintf(" (and %d more)", more)
		}
		return line
	case v.Grade == Unjudged && len(v.Unjudged) > 0:
		return "Machine: unjudged - " + v.Unjudged[0].Reason
	}
	return "Machine: " + string(v.Grade)
}

func (v Verdict) count(severity Grade) (n int) {
	for _, r := range v.Reasons {
		if r.Severity == severity {
			n++
		}
	}
	return n
}

// A Judge judges one aspect of a run. Its methods are safe for concurrent use. A
// [Rule] is a Judge with limits as data.
type Judge interface {
	// Judge returns what it finds in the evidence, which it must not change. What
	// it cannot judge is in Unjudged, and the number of figures that it could is
	// in Judged. It ignores the fields' grade.
	Judge(e *Evidence) Verdict
}

// Evidence is what is known of a run.
type Evidence struct {
	Start   State
	End     *State // nil if it could not be read, or the run has not ended
	Samples Summary

	// Foreign are the processes of others that used a GPU. ForeignKnown reports
	// whether processes could be listed at all.
	Foreign      []ForeignProcess
	ForeignKnown bool

	// Neighbours are other runs of the same program, at the same time.
	Neighbours []Neighbour

	// Observed are what somebody who watched the run found; see [Run].
	Observed []Reason

	// StartMissing reports whether Start was read after the run had begun.
	StartMissing bool
}

// A Neighbour is another run on this machine.
type Neighbour struct {
	Name  string    `json:"name"`
	First time.Time `json:"first"` // when it was first seen
	Last  time.Time `json:"last"`
}

// Duration returns the time from Start to End, by the clock that nobody can set if
// both have it. It is 0 without End.
func (e *Evidence) Duration() time.Duration {
	if e.End == nil {
		return 0
	}
	if a, b := e.Start.Host.Uptime, e.End.Host.Uptime; a != nil && b != nil && e.SameBoot() {
		return max(*b-*a, 0)
	}
	return max(e.End.Time.Sub(e.Start.Time), 0)
}

// SameBoot reports whether the counters of Start and End belong together.
func (e *Evidence) SameBoot() bool { return e.End != nil && e.Start.BootID == e.End.BootID }

// A ForeignProcess is a process of somebody else that used a GPU.
type ForeignProcess struct {
	GPU         int       `json:"gpu"`
	PID         int       `json:"pid"`
	Command     string    `json:"command,omitempty"`
	Owner       string    `json:"owner,omitempty"` // user name or id
	First       time.Time `json:"first"`           // when it was first seen
	Last        time.Time `json:"last"`
	MaxSMPct    *float64  `json:"max_sm_pct,omitempty"` // nil if unknown
	MemoryBytes *int64    `json:"memory_bytes,omitempty"`
	Before      bool      `json:"before,omitempty"` // whether it was there when the run began
}

// Decide asks all judges and returns the common verdict: the worst reason's severity.
// Without a warning or worse it is Unjudged if no figure could be judged, or none of
// a GPU though the machine has one; else Valid.
func Decide(e *Evidence, judges ...Judge) Verdict {
	v := Verdict{Grade: Valid, Reasons: append([]Reason{}, e.Observed...)}
	for _, j := range judges {
		part := j.Judge(e)
		v.Reasons = append(v.Reasons, part.Reasons...)
		v.Unjudged = append(v.Unjudged, part.Unjudged...)
		v.Judged += part.Judged
	}
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return cmp.Compare(b.Severity.rank(), a.Severity.rank()) })
	if len(v.Reasons) > MaxReasons {
		v.Reasons = v.Reasons[:MaxReasons]
	}
	if len(v.Unjudged) > MaxReasons {
		v.Unjudged = v.Unjudged[:MaxReasons]
	}
	if why := e.nothingJudged(v.Judged); why != "" {
		v.Grade = Unjudged
		v.Unjudged = slices.Insert(v.Unjudged, 0, UnjudgedFigure{Code: "machine", Reason: why})
	}
	if len(v.Reasons) > 0 && v.Reasons[0].Severity.rank() > v.Grade.rank() && v.Reasons[0].Severity != Info {
		v.Grade = v.Reasons[0].Severity
	}
	return v
}

// nothingJudged returns why there can be no verdict, or an empty text.
func (e *Evidence) nothingJudged(judged int) string {
	switch {
	case e.End == nil:
		return "the state at the end is missing"
	case e.StartMissing:
		return "the state before the run is missing"
	case judged == 0:
		return "nothing of this machine could be read"
	case e.hasGPUs() && len(e.Start.GPUs) == 0 && len(e.End.GPUs) == 0:
		return "the GPUs' counters could not be read"
	}
	return ""
}

// hasGPUs reports whether anything has been seen of a GPU.
func (e *Evidence) hasGPUs() bool {
	gap := func(g Gap) bool { return g.What == "gpu_counters" }
	return len(e.Start.GPUs) > 0 || len(e.Samples.GPUs) > 0 ||
		slices.ContainsFunc(e.Start.Gaps, gap) && !slices.ContainsFunc(e.Start.Gaps, noGPU)
}
