package jobs

import (
	"cmp"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/logstream"
)

// The files of a job's directory; see the package comment.
const (
	commandFileName = "command.json"
	recordFileName  = "job.json"
	logFileName     = "log"
	resultsDirName  = "results"

	// ResultFile and DeliveryFile belong to package outbox.
	ResultFile   = "result.json"
	DeliveryFile = "delivery"
)

// A Job is one accepted command and what becomes of it. Its methods are safe for
// concurrent use. Those that only read wait for nothing, not even for the disk.
type Job struct {
	ID         string // names its directory
	Dir        string // absolute, without symbolic links
	Command    Command
	Source     Source
	AcceptedAt time.Time
	Recovered  bool  // whether an agent before this one accepted it
	Damage     error // why it could not be read by Load; nil if it could

	// Log is the job's log.
	Log *Log

	record  atomic.Pointer[Record]       // published; what it points to is never changed
	cancel  atomic.Pointer[Cancellation] // the request to stop the job, written or not
	changes base.Broadcast

	changed func(*Job) // called after each change of state; may be nil

	write   sync.Mutex // held while the disk works on job.json
	unsaved bool       // whether the last change could not be written. guarded by write
}

func newJob(dir string, c commandFile, rec Record) *Job {
	j := &Job{
		ID: filepath.Base(dir), Dir: dir,
		Command: c.Command, Source: c.Source, AcceptedAt: c.AcceptedAt,
	}
	j.Log = &Log{path: j.Path(logFileName)}
	j.record.Store(&rec)
	j.cancel.Store(rec.Cancel)
	return j
}

// Path returns the path of a file in the job's directory.
func (j *Job) Path(name string) string { return filepath.Join(j.Dir, name) }

// ResultsDir returns where the benchmark writes its files.
func (j *Job) ResultsDir() string { return j.Path(resultsDirName) }

// SetLogAside keeps a log that could not be opened under another name, so that
// another one can be made.
func (j *Job) SetLogAside() {
	moveAside(j.Path(logFileName))
	moveAside(j.Path(logFileName + logstream.Suffix))
}

// Record returns the job's record as it is now.
func (j *Job) Record() Record { return *j.record.Load() }

// State returns the job's state.
func (j *Job) State() State { return j.record.Load().State }

// TestID returns the id of the server's test that the job stands for; empty if
// there is none, or none is known.
func (j *Job) TestID() string { return cmp.Or(j.Command.TestID, j.record.Load().TestID) }

// IsBenchmark reports whether the job runs a benchmark.
func (j *Job) IsBenchmark() bool { return j.Command.Type == TypeRunTest }

// Changed returns a channel that is closed by the next change of the record. Take
// it before you look at the record.
func (j *Job) Changed() <-chan struct{} { return j.changes.Wait() }

// Notify wakes those who wait for a change, for one that the record doesn't show.
func (j *Job) Notify() { j.changes.Send() }

// Transition is the one way for a job to change its state. It refuses a step that
// the table of [State] doesn't have, writes the new record to disk, and only then
// publishes it. change, if not nil, sets what else the step brings.
//
// If the disk refuses the record and strict is true, nothing changes. If strict
// is false the step is made in memory all the same, since a full disk must not
// hold up a benchmark, and [Job.Save] writes it once there is room.
func (j *Job) Transition(to State, strict bool, change func(*Record)) error {
	err := j.transition(to, strict, change)
	if j.changed != nil && j.State() == to {
		j.changed(j)
	}
	return err
}

func (j *Job) transition(to State, strict bool, change func(*Record)) error {
	j.write.Lock()
	defer j.write.Unlock()
	if from := j.State(); !from.mayFollow(to) {
		return fmt.Errorf("job %s cannot go from %s to %s", j.ID, from, to)
	}
	return j.updateLocked(strict, func(rec *Record) {
		rec.State = to
		rec.ChangedAt = time.Now()
		if change != nil {
			change(rec)
		}
	})
}

// Update changes the record without a change of state, in the same order: written
// first, then published. A disk that refuses it holds nothing up, as in Transition.
func (j *Job) Update(change func(*Record)) error {
	j.write.Lock()
	defer j.write.Unlock()
	return j.updateLocked(false, change)
}

// updateLocked writes and publishes a change. j.write must be held.
func (j *Job) updateLocked(strict bool, change func(*Record)) error {
	rec := j.Record()
	change(&rec)
	rec.Cancel = j.cancel.Load()
	rec = rec.bounded()
	err := base.WriteJSON(j.Path(recordFileName), rec, maxRecord)
	if err != nil && strict {
		return fmt.Errorf("write state of job %s: %w", j.ID, err)
	}
	j.unsaved = err != nil
	j.record.Store(&rec)
	j.changes.Send()
	return err
}

// RequestCancel publishes the request to stop the job, and reports whether it is
// the first one; only the first counts. It does not wait for the disk: call
// SaveCancel for that, so that the next start knows of the request.
func (j *Job) RequestCancel(c Cancellation) (first bool) {
	first = j.cancel.CompareAndSwap(nil, &c)
	j.changes.Send()
	return first
}

// SaveCancel writes the request to stop the job to disk.
func (j *Job) SaveCancel() error { return j.Update(func(*Record) {}) }

// Cancelled returns the request to stop the job, nil if there is none.
func (j *Job) Cancelled() *Cancellation { return j.cancel.Load() }

// Save writes a record again that could not be written before. It reports whether
// nothing is left to write.
func (j *Job) Save() bool {
	j.write.Lock()
	defer j.write.Unlock()
	if j.unsaved {
		j.unsaved = base.WriteJSON(j.Path(recordFileName), j.Record(), maxRecord) != nil
	}
	return !j.unsaved
}
