package integrity

import (
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/hwdetect"
	"github.com/kirizan/kitt-agent/internal/base"
)

// Schema is the first field of a report file of this version.
const Schema = "kitt-agent/integrity/1"

// MaxReport is the longest report file, in bytes. One of eight GPUs has about 20 KB.
const MaxReport = 1 << 20

// A Report is what a file says about one run. Before the run it has a Start and no
// End; so a program that is started again during the run loses samples and never the
// counters.
type Report struct {
	Schema   string            `json:"schema"`             // see [Schema]
	Identity map[string]string `json:"identity,omitempty"` // what two comparable runs share, such as driver
	Start    State             `json:"start"`
	End      *State            `json:"end,omitempty"`
	Delta    []GPUDelta        `json:"delta,omitempty"` // what the GPUs' counters advanced by
	Samples  Summary           `json:"samples"`

	Phases []Phase `json:"phases,omitempty"` // in their order

	PageCache *PageCache `json:"page_cache,omitempty"` // of the model, before the run; nil if unknown

	Foreign []ForeignProcess `json:"foreign,omitempty"`

	ForeignKnown bool          `json:"foreign_known"` // whether processes on the GPUs could be listed
	Neighbours   []Neighbour   `json:"neighbours,omitempty"`
	Observed     []Reason      `json:"observed,omitempty"` // see [Run].Watch
	Gaps         []Gap         `json:"gaps,omitempty"`     // in addition to those of the states and samples
	IntervalNS   time.Duration `json:"interval_ns,omitempty"`

	Verdict Verdict       `json:"verdict"`
	Rules   []RuleInForce `json:"rules"`
}

// The files of a recording; see [Run]. [SamplesFile] becomes [TelemetryFile] when the
// run has ended, compressed with gzip as TelemetryFile.gz if it is large.
const (
	ReportFile    = "integrity.json"
	TelemetryFile = "telemetry.csv"
	SamplesFile   = "samples.csv"
)

// A RuleInForce is a rule by which a run was judged.
type RuleInForce struct {
	Code  string `json:"code"`
	Unit  string `json:"unit"`
	Limit Limit  `json:"limit"`
	Why   string `json:"why,omitempty"`
}

// A GPUDelta is what one GPU's counters advanced by. Settings are not part of it. A
// nil field is unknown: a counter could not be read, or was reset.
type GPUDelta struct {
	hwdetect.GPUCounters
}

// NewReport returns the report of a run by its evidence, judged by rules and then by
// further judges. Evidence without an End makes the report of a run that goes on.
func NewReport(e *Evidence, identity map[string]string, rules []Rule, further ...Judge) Report {
	r := Report{
		Schema: Schema, Identity: identity, Start: e.Start, End: e.End, Delta: e.deltas(), Samples: e.Samples, Foreign: e.Foreign,
		Verdict: Decide(e, append(Judges(rules), further...)...),
		Rules:   []RuleInForce{},
	}
	for _, rule := range rules {
		r.Rules = append(r.Rules, RuleInForce{Code: rule.Code, Unit: rule.Unit, Limit: rule.Limit, Why: rule.Why})
	}
	return r
}

// deltas returns what the counters of each GPU advanced by.
func (e *Evidence) deltas() (deltas []GPUDelta) {
	eachGPU(e, func(p pair) Figure {
		a, b := p.start, p.end
		deltas = append(deltas, GPUDelta{hwdetect.GPUCounters{
			Index: a.Index, UUID: a.UUID,
			PowerCap: advanced(a.PowerCap, b.PowerCap), SyncBoost: advanced(a.SyncBoost, b.SyncBoost),
			SWThermal: advanced(a.SWThermal, b.SWThermal), HWThermal: advanced(a.HWThermal, b.HWThermal),
			HWPowerBrake: advanced(a.HWPowerBrake, b.HWPowerBrake), EnergyJ: advanced(a.EnergyJ, b.EnergyJ),
			ECCUncorrected: advanced(a.ECCUncorrected, b.ECCUncorrected), ECCCorrected: advanced(a.ECCCorrected, b.ECCCorrected),
			PCIeReplays: advanced(a.PCIeReplays, b.PCIeReplays), NVLinkErrors: advanced(a.NVLinkErrors, b.NVLinkErrors),
		}})
		return Figure{}
	})
	return deltas
}

// advanced returns what a counter advanced by, or nil if that is unknown.
func advanced[T int64 | float64 | time.Duration](start, end *T) *T {
	if d, unknown := delta(start, end); unknown == "" {
		return &d
	}
	return nil
}

// WriteReport writes r to path in one step. After a crash the file holds either all
// of r or what it held before.
func WriteReport(path string, r Report) error { return base.WriteJSON(path, r, MaxReport) }

// ReadReport reads a file that WriteReport wrote. The error matches [os.ErrNotExist]
// if there is none, and says so if the file is of another version.
func ReadReport(path string) (Report, error) {
	var r Report
	if err := base.ReadJSON(path, &r, MaxReport); err != nil {
		return Report{}, err
	}
	if r.Schema != Schema {
		return Report{}, fmt.Errorf("%s: schema %q is not %s", path, base.Printable(r.Schema, 80), Schema)
	}
	if r.Start.Time.IsZero() {
		return Report{}, fmt.Errorf("%s: %w", path, errors.New("there is no start"))
	}
	return r, nil
}
