package agent

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// recordVersion is the version of the files in a job's directory. A newer agent
// reads what an older one wrote, and an older one what a newer one wrote.
const recordVersion = 1

// Where a command came from.
const (
	sourceServer    = "server"    // a heartbeat's answer
	sourceRecovered = "recovered" // found among the server's dispatched tests
	sourceAPI       = "api"       // POST /api/commands
	sourceProgram   = "program"   // Agent.Submit
)

// record is job.json: what became of it.
type record struct {
	Version     int           `json:"version"`
	State       State         `json:"state"`
	TestID      string        `json:"test_id,omitempty"`  // as in command.json, which may be damaged
	AskTest     bool          `json:"ask_test,omitempty"` // whether the server is to be asked for the test
	ChangedAt   time.Time     `json:"changed_at"`
	StartedAt   time.Time     `json:"started_at,omitzero"` // when the runner was first asked
	EndedAt     time.Time     `json:"ended_at,omitzero"`
	ModelPath   string        `json:"model_path,omitempty"` // what the benchmark runs on
	ModelOrigin string        `json:"model_origin,omitempty"`
	Image       string        `json:"image,omitempty"`
	LogLines    int64         `json:"log_lines,omitempty"` // once it has ended
	Outcome     *ending       `json:"outcome,omitempty"`   // once it is known how the job ends; of one that runs: it is to be abandoned
	Cancel      *cancellation `json:"cancel,omitempty"`    // once it was asked for
}

// newRecord returns the record of a command that was accepted.
func newRecord(o order) record {
	return record{Version: recordVersion, State: StateAccepted, TestID: o.Command.TestID, ChangedAt: o.AcceptedAt}
}

// fail makes rec the record of a job that failed before it could begin.
func (rec *record) fail(outcome ending) {
	rec.State, rec.EndedAt, rec.Outcome = StateFailed, rec.ChangedAt, &outcome
	rec.bound()
}

// cancellation is a request to stop a job.
type cancellation struct {
	By string    `json:"by"` // for a person: "user", "server", …
	At time.Time `json:"at"`
}

// An ending says how a job ended.
type ending struct {
	State       State  `json:"state"`           // completed, failed or cancelled
	Error       string `json:"error,omitempty"` // one sentence for a person
	Class       string `json:"class,omitempty"` // of the failure, for a machine
	Fix         string `json:"fix,omitempty"`   // what mends it, where that is known
	ExitCode    int    `json:"exit_code"`       // of the benchmark; -1 where there is none
	Runner      string `json:"runner,omitempty"`
	ContainerID string `json:"container_id,omitempty"`
}

// abandoned reports whether the job's run is to be ended and not continued.
func (rec record) abandoned() bool { return rec.State == StateRunning && rec.Outcome != nil }

// maxReason bounds each text of a record that comes from outside, in bytes.
const maxReason = 16 << 10

// bound cuts the texts of rec that a runner, a storage or a caller chose, so
// that the record can be read back.
func (rec *record) bound() {
	if rec.Outcome != nil {
		o := *rec.Outcome
		for _, text := range []*string{&o.Error, &o.Class, &o.Fix, &o.Runner, &o.ContainerID} {
			*text = cut(*text, maxReason)
		}
		rec.Outcome = &o
	}
	if rec.Cancel != nil {
		c := *rec.Cancel
		c.By = cut(c.By, maxReason)
		rec.Cancel = &c
	}
}

// cut returns text, or its beginning and an ellipsis if it has more than limit
// bytes.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// job is one command and what becomes of it.
type job struct {
	id    string // names its directory
	dir   string
	order order
	spec  spec

	recovered bool     // whether an agent before this one accepted it
	resumed   bool     // whether an agent before this one handed it to a runner
	damage    error    // why it could not be read at the start; nil if it could
	progress  progress // of the model's copy
	logs      logKeeper
	tidied    atomic.Bool // whether nothing is left to make small
	done      atomic.Bool // whether the courier has done what it can

	mu      sync.Mutex
	rec     record
	stop    context.CancelCauseFunc // ends the job's turn; nil while it has none
	unsaved bool                    // whether the last change could not be written
	refusal string                  // the server's word on reports that it turned away
	again   time.Time               // when they are tried again; zero while they are
	changes broadcast
}

func newJob(dir string, o order, rec record) *job {
	j := &job{id: filepath.Base(dir), dir: dir, order: o, rec: rec}
	j.logs.path = j.path(logFile)
	return j
}

// path returns the path of a file in the job's directory.
func (j *job) path(name string) string { return filepath.Join(j.dir, name) }

// holder names the job to the storage. Agents of one machine may keep their
// models in one directory, so it tells them apart: a Dir has one agent at a time.
func (j *job) holder() string { return j.dir }

// resultsDir returns where the benchmark writes its files.
func (j *job) resultsDir() string { return j.path(resultsDir) }

// testID returns the id of the server's test that the job stands for; empty if
// there is none, or none is known.
func (j *job) testID() string { return cmp.Or(j.order.Command.TestID, j.snapshot().TestID) }

// snapshot returns the job's record as it is now.
func (j *job) snapshot() record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rec
}

func (j *job) state() State { return j.snapshot().State }

// transition is the one way for a job to change its state. It refuses a step
// that the table in state.go doesn't have, writes the new record to disk, and
// only then makes it true in memory and tells whoever waits for it. change, if
// not nil, sets what else the step brings.
//
// When the disk refuses the record the step is made in memory all the same
// where strict is false: a full disk must not hold up a benchmark. The job is
// then marked, and saved by the agent as soon as there is room.
func (j *job) transition(to State, strict bool, change func(*record)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.rec.State.mayFollow(to) {
		return fmt.Errorf("job %s cannot go from %s to %s", j.id, j.rec.State, to)
	}
	return j.updateLocked(strict, func(rec *record) {
		rec.State = to
		rec.ChangedAt = time.Now()
		if change != nil {
			change(rec)
		}
	})
}

// update changes the record without a change of state, in the same order:
// written first, then true.
func (j *job) update(change func(*record)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.updateLocked(false, change)
}

func (j *job) updateLocked(strict bool, change func(*record)) error {
	rec := j.rec
	change(&rec)
	rec.bound()
	err := writeJSON(j.path(recordFile), rec)
	if err != nil && strict {
		return fmt.Errorf("write state of job %s: %w", j.id, err)
	}
	j.unsaved = err != nil
	j.rec = rec
	j.changes.send()
	return err
}

// save writes a record again that could not be written before. It reports
// whether nothing is left to write.
func (j *job) save() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.unsaved {
		j.unsaved = writeJSON(j.path(recordFile), j.rec) != nil
	}
	return !j.unsaved
}

// begin notes that the job has its turn, which stop ends.
func (j *job) begin(stop context.CancelCauseFunc) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stop = stop
}

// end notes that the job's turn is over.
func (j *job) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stop = nil
	j.changes.send()
}

// cancelled returns the request to stop the job, nil if there is none.
func (j *job) cancelled() *cancellation { return j.snapshot().Cancel }

// broadcast wakes everybody who waits. Its zero value is ready.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

// wait returns a channel that the next send closes.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}
