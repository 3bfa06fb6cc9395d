package results

import (
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// NotJudged is the verdict of a run without a usable integrity.json.
const NotJudged integrity.Grade = "not judged"

// A Summary is what a list shows of a run. What is not known is empty.
type Summary struct {
	ID     string `json:"id"`                // of the command
	TestID string `json:"test_id,omitempty"` // the server's
	Origin string `json:"origin,omitempty"`  // the agent that an imported run came from; empty for a run of this Store's agent

	Agent        string `json:"agent,omitempty"` // name
	AgentVersion string `json:"agent_version,omitempty"`

	Model     string `json:"model"`
	Engine    string `json:"engine"`
	Suite     string `json:"suite"`
	Mode      string `json:"engine_mode,omitempty"` // docker, native or empty
	Benchmark string `json:"benchmark,omitempty"`

	State    string    `json:"state"` // completed, failed, cancelled, or what the job does now
	Passed   *bool     `json:"passed,omitempty"`
	Accepted time.Time `json:"accepted,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`

	// Verdict says whether the machine was fit to be measured. Reason is its first
	// reason.
	Verdict integrity.Grade `json:"verdict"`
	Reason  string          `json:"reason,omitempty"`

	// Headline is the first throughput among the metrics; nil if there is none.
	Headline *Metric `json:"headline,omitempty"`

	Problems []string `json:"problems,omitempty"` // what of the run could not be read or believed

	key string // names it in its Store
}

// Time returns when the run ended, or else began, or else was accepted.
func (s *Summary) Time() time.Time {
	for _, t := range []time.Time{s.Ended, s.Started, s.Accepted} {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// Completed reports whether the benchmark ran to its end.
func (s *Summary) Completed() bool { return s.State == stateCompleted }

const stateCompleted = "completed"

// A Run is all that is kept of one benchmark, but for its log and samples.
type Run struct {
	Summary
	Metrics  []Metric `json:"metrics"`           // sorted by name
	Missing  []string `json:"missing,omitempty"` // metrics without a number, such as NaN
	Identity Identity `json:"identity"`
	Energy   Energy   `json:"energy"`

	// Report is the agent's report on the machine; nil if the run is not judged.
	Report *integrity.Report `json:"integrity,omitempty"`

	data      map[string]any // see result.json
	rawReport []byte         // integrity.json; nil if there is none
	recorded  *jobs.Machine  // the verdict in the job's record; nil if there is none
	samples   string         // the file with the samples; empty if there is none
}

// Metric returns the metric of that name; nil if there is none.
func (r *Run) Metric(name string) *Metric {
	for i := range r.Metrics {
		if r.Metrics[i].Name == name {
			return &r.Metrics[i]
		}
	}
	return nil
}

// Energy is what the GPUs used during a run. A nil field is unknown.
type Energy struct {
	// Joules is the sum of the GPUs' counters over the whole run, loading included.
	Joules *float64 `json:"joules,omitempty"`

	// Tokens is the sum of what the benchmarks say they generated.
	Tokens *float64 `json:"tokens,omitempty"`

	// JoulesPerToken is Joules divided by Tokens. It is an upper bound: the energy is
	// also that of loading, of warming up and of benchmarks that count no tokens.
	JoulesPerToken *float64 `json:"joules_per_token,omitempty"`
}

// Identity says on what a run was measured, by field. Comparable runs have the same. A
// field that is not known is missing.
type Identity map[string]string

// The fields of an Identity that matter most. There may be others.
const (
	FieldGPU        = "gpu"         // models and numbers, such as 8 x NVIDIA H100
	FieldDriver     = "driver"      // NVIDIA's driver
	FieldImage      = "image"       // the container image's id; missing without a container
	FieldModelHash  = "model_hash"  // of the model's manifest
	FieldPowerLimit = "power_limit" // of the GPUs, in W
)

// SMClockMHz returns the median SM clock under load, over the GPUs; 0 if it is unknown.
func (r *Run) SMClockMHz() float64 {
	if r.Report == nil {
		return 0
	}
	var clocks []float64
	for _, g := range r.Report.Samples.GPUs {
		if g.SMClock != nil && g.SMClock.MedianMHz > 0 {
			clocks = append(clocks, float64(g.SMClock.MedianMHz))
		}
	}
	return median(clocks)
}
