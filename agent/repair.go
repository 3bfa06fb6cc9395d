package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// damagedSuffix, followed by the time, marks a file of a job that could not be
// read. It stays in the job's directory.
const damagedSuffix = ".damaged-"

// errTooLong is matched by the error of a file that is longer than maxRecord.
var errTooLong = errors.New("too long")

// otherJobError is the error of a command.json that belongs to the job in another
// directory.
type otherJobError struct{ id string }

func (e *otherJobError) Error() string {
	return fmt.Sprintf("%s belongs to command %q", orderFile, e.id)
}

// read returns the job in the directory with the given name. If one of its files
// cannot be read, it repairs the job; see repair. The error is an otherJobError
// for a copy of another job's directory, which is no job.
func (s *store) read(id string) (*job, error) {
	dir := filepath.Join(s.dir, id)
	o, orderErr := readOrder(dir, id)
	rec, recordErr := readRecord(dir)
	if orderErr == nil && recordErr == nil {
		return newJob(dir, o, rec), nil
	}
	if other, ok := errors.AsType[*otherJobError](orderErr); ok && fileExists(filepath.Join(s.dir, other.id)) {
		return nil, orderErr
	}
	return repair(dir, o, rec, orderErr, recordErr), nil
}

// readOrder reads command.json. With an error the order is what is known all the
// same; its command id is the name of the directory.
func readOrder(dir, id string) (order, error) {
	path := filepath.Join(dir, orderFile)
	var o order
	err := readJSON(path, &o)
	if err != nil {
		known, damage := salvageOrder(path)
		o = known
		if damage == nil && errors.Is(err, errTooLong) {
			// An older agent wrote it. It is written as it should be, also for
			// that agent, which cannot read its own.
			o = o.compact()
			err = writeJSON(path, o)
		}
	}
	if safe, _ := safeID(o.Command.ID); o.Command.ID != "" && safe != id {
		err = &otherJobError{safe}
	}
	if err == nil {
		return o.compact(), nil
	}
	o.Version, o.Command.ID = recordVersion, id
	if o.AcceptedAt.IsZero() {
		o.AcceptedAt = modified(path, dir)
	}
	return o, err
}

// readRecord reads job.json. With an error the record is empty.
func readRecord(dir string) (record, error) {
	var rec record
	if err := readJSON(filepath.Join(dir, recordFile), &rec); err != nil {
		return record{}, err
	}
	if !rec.State.valid() {
		return record{}, fmt.Errorf("%s has the unknown state %q", recordFile, printable(string(rec.State)))
	}
	if rec.State.Ended() && rec.Outcome == nil {
		return record{}, fmt.Errorf("%s is %s without an outcome", recordFile, rec.State)
	}
	return rec, nil
}

// modified returns when the first of these files that is there was last written,
// or else the time now.
func modified(paths ...string) time.Time {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			return info.ModTime()
		}
	}
	return time.Now()
}

// repair makes a job of what is known of one whose files cannot all be read. A
// job that had not ended becomes one that runs and whose outcome is known: it may
// have left a benchmark running, which is to be ended, and nothing else of it is
// done. Files that could not be read stay beside the new ones.
//
// job.json is written first: a crash between the two leaves a job that is
// repaired again, and no command whose payload is missing. Where the disk refuses
// the files the job exists in memory, and is repaired again by the next start.
func repair(dir string, o order, rec record, orderErr, recordErr error) *job {
	damage := also(orderErr, recordErr)
	if o.Command.TestID == "" {
		o.Command.TestID = rec.TestID
	}
	rec.Version, rec.TestID = recordVersion, o.Command.TestID
	rec.AskTest = rec.TestID == ""
	if !jobType(o.Command.Type) {
		o.Command.Type = TypeRunTest // it may have left a benchmark running
	}
	if recordErr != nil || rec.State != StateFinishing && !rec.State.Ended() {
		outcome := failure(&damagedError{dir: dir})
		rec.State, rec.ChangedAt, rec.Outcome = StateRunning, time.Now(), &outcome
	}
	j := newJob(dir, o, rec)
	j.damage = damage
	if recordErr != nil {
		moveAside(j.path(recordFile))
	}
	err := writeJSON(j.path(recordFile), rec)
	j.unsaved = err != nil
	if err == nil && orderErr != nil {
		moveAside(j.path(orderFile))
		err = writeJSON(j.path(orderFile), o)
	}
	if err != nil {
		j.damage = also(damage, err)
	}
	return j
}

// also returns both errors as one, on one line; either may be nil.
func also(err, other error) error {
	switch {
	case err == nil:
		return other
	case other == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, other)
}

// moveAside keeps a file that could not be read under another name, if it is
// there.
func moveAside(path string) {
	// If that fails, so does the write that follows, or it replaces the file.
	_ = os.Rename(path, path+damagedSuffix+time.Now().UTC().Format("20060102T150405.000000000"))
}

// damagedError is why a job ends whose files could not be read.
type damagedError struct{ dir string }

func (e *damagedError) Error() string {
	return "the agent's record of this job was damaged, so the job was ended; what is left of it is kept on the machine"
}
func (e *damagedError) Class() string { return "damaged" }
func (e *damagedError) Fix() string   { return "look into " + e.dir }
