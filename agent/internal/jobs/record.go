package jobs

import (
	"strings"
	"time"
)

// version is that of the files in a job's directory. A newer agent reads what an
// older one wrote, and an older one what a newer one wrote: keys are only added.
const version = 1

// A Record is job.json: what became of a job.
type Record struct {
	Version     int           `json:"version"`
	State       State         `json:"state"`
	TestID      string        `json:"test_id,omitempty"`  // as in command.json, which may be damaged
	AskTest     bool          `json:"ask_test,omitempty"` // whether the server is to be asked for the test
	ChangedAt   time.Time     `json:"changed_at"`
	StartedAt   time.Time     `json:"started_at,omitzero"` // when the runner was first asked
	EndedAt     time.Time     `json:"ended_at,omitzero"`
	ModelPath   string        `json:"model_path,omitempty"`  // what the benchmark runs on
	ModelName   string        `json:"model_name,omitempty"`  // what results call it; empty means as requested
	ModelFiles  []string      `json:"model_files,omitempty"` // all of it, if it is several files
	ModelOrigin string        `json:"model_origin,omitempty"`
	ModelHash   string        `json:"model_hash,omitempty"` // see storage.Lease
	Image       string        `json:"image,omitempty"`
	Config      string        `json:"config,omitempty"`      // name of the file among the results that configures the engine
	Mode        string        `json:"mode,omitempty"`        // engine_mode, if an engine profile decided it
	EnginePort  int           `json:"engine_port,omitempty"` // of its engine profile; 0 if that names none
	GPUs        []string      `json:"gpus,omitempty"`        // that it has for itself, by UUID; none if benchmarks have all of them
	Neighbours  []Neighbour   `json:"neighbours,omitempty"`  // benchmarks of this agent that ran at the same time
	LogLines    int64         `json:"log_lines,omitempty"`   // once it has ended
	LogRefused  int64         `json:"log_refused,omitempty"` // lines that the disk refused; once it has ended
	Outcome     *Outcome      `json:"outcome,omitempty"`     // once it is known; not changed after that
	Cancel      *Cancellation `json:"cancel,omitempty"`      // once it was requested

	// LeftoversSince is when a benchmark was started that may have left something
	// running, which is still to be ended; zero if nothing is.
	LeftoversSince time.Time `json:"leftovers_since,omitzero"`
}

// A Neighbour is another benchmark of this agent that ran while a job's did.
type Neighbour struct {
	Job     string    `json:"job"`
	Overlap string    `json:"overlap,omitempty"` // what both used, for a person; empty for nothing but the machine
	From    time.Time `json:"from"`
	To      time.Time `json:"to,omitzero"` // zero while both run
}

// A Cancellation is a request to stop a job.
type Cancellation struct {
	By string    `json:"by"` // for a person: "user", "server", …
	At time.Time `json:"at"`
}

// An Outcome says how a job ended.
type Outcome struct {
	State       State  `json:"state"`           // completed, failed or cancelled
	Error       string `json:"error,omitempty"` // one sentence for a person
	Class       string `json:"class,omitempty"` // of the failure, for a machine
	Fix         string `json:"fix,omitempty"`   // what to do about it, where that is known
	ExitCode    int    `json:"exit_code"`       // of the benchmark; -1 where there is none
	Runner      string `json:"runner,omitempty"`
	ContainerID string `json:"container_id,omitempty"`
	Image       Image  `json:"image,omitzero"`    // of the container
	MayRun      bool   `json:"may_run,omitempty"` // whether the benchmark was stopped and may still be running

	SeenGPUs *int `json:"seen_gpus,omitempty"` // how many the benchmark could see from inside; nil if unknown

	Machine *Machine `json:"machine,omitempty"` // nil if nothing was recorded of it
}

// A Machine says whether the machine was fit to be measured; see package integrity.
type Machine struct {
	Verdict string `json:"verdict"` // valid, warning, invalid or unjudged
	Text    string `json:"text"`    // one line for a person
}

// An Image is a container image; see runner.Image.
type Image struct {
	Name   string `json:"name,omitempty"`
	ID     string `json:"id"`
	Digest string `json:"digest,omitempty"`
}

// Abandoned reports whether the job's run is to be ended and not continued.
func (r Record) Abandoned() bool { return r.State == StateRunning && r.Outcome != nil }

// newRecord returns the record of a command that was accepted.
func newRecord(c commandFile) Record {
	return Record{Version: version, State: StateAccepted, TestID: c.Command.TestID, ChangedAt: c.AcceptedAt}
}

// maxText bounds each text of a record that comes from outside, in bytes.
const maxText = 16 << 10

// bounded returns r with the texts that a runner, a storage or a caller chose cut
// to maxText, so that the record can be read back.
func (r Record) bounded() Record {
	if r.Outcome != nil {
		o := *r.Outcome
		for _, text := range []*string{&o.Error, &o.Class, &o.Fix, &o.Runner, &o.ContainerID, &o.Image.Name, &o.Image.ID, &o.Image.Digest} {
			*text = Cut(*text, maxText)
		}
		if o.Machine != nil {
			o.Machine = &Machine{o.Machine.Verdict, Cut(o.Machine.Text, maxText)}
		}
		r.Outcome = &o
	}
	if r.Cancel != nil {
		c := *r.Cancel
		c.By = Cut(c.By, maxText)
		r.Cancel = &c
	}
	return r
}

// Cut returns text, or its beginning and an ellipsis if it has more than limit
// bytes.
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
