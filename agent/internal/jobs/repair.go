package jobs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// damagedSuffix, followed by the time, marks a file of a job that could not be
// read. It stays in the job's directory.
const damagedSuffix = ".damaged-"

// A copyError is the error of a directory whose command.json belongs to another
// job: somebody copied it.
type copyError struct{ id string }

func (e *copyError) Error() string {
	return fmt.Sprintf("%s belongs to command %q", commandFileName, e.id)
}

// read returns the job in the directory with the given name. If one of its files
// cannot be read, it repairs the job; see repair. The error is a copyError for a
// copy of another job's directory, which is not a job.
func (s *Store) read(id string) (*Job, error) {
	dir := filepath.Join(s.dir, id)
	c, commandErr := readCommand(dir, id)
	rec, recordErr := readRecord(dir)
	if commandErr == nil && recordErr == nil && rec.State.Active() && !c.Command.IsJob() {
		commandErr = fmt.Errorf("%s has the type %q, which is no job", commandFileName, base.Printable(c.Command.Type, 80))
	}
	if commandErr == nil && recordErr == nil {
		return newJob(dir, c, rec), nil
	}
	if other, ok := errors.AsType[*copyError](commandErr); ok && base.Exists(filepath.Join(s.dir, other.id)) {
		return nil, commandErr
	}
	return repair(dir, c, rec, commandErr, recordErr), nil
}

// readCommand reads command.json. With an error the result is what is known all
// the same; its command id is the name of the directory.
func readCommand(dir, id string) (commandFile, error) {
	path := filepath.Join(dir, commandFileName)
	var c commandFile
	err := readJSON(path, &c)
	if c.Command.Type != TypeStartEngine {
		c.Command.Spec.RuntimeConfig = nil // older agents kept what the server sent, whatever it was
	}
	if err != nil {
		known, damage := salvageCommand(path)
		c = known
		if damage == nil && c.Command.ID != "" && errors.Is(err, base.ErrTooLarge) {
			// An older agent wrote it, with the whole payload. It is written as it
			// should be, also for that agent, which cannot read its own.
			err = writeJSON(path, c)
		}
	}
	switch safe, _ := SafeID(c.Command.ID); {
	case c.Command.ID == "" && err == nil:
		err = fmt.Errorf("%s names no command", commandFileName)
	case c.Command.ID != "" && safe != id:
		err = &copyError{safe}
	}
	if err == nil {
		return c, nil
	}
	c.Version, c.Command.ID = version, id
	if c.AcceptedAt.IsZero() {
		c.AcceptedAt = modified(path, dir)
	}
	return c, err
}

// readRecord reads job.json. With an error the record is empty.
func readRecord(dir string) (Record, error) {
	var rec Record
	if err := readJSON(filepath.Join(dir, recordFileName), &rec); err != nil {
		return Record{}, err
	}
	if !rec.State.Valid() {
		return Record{}, fmt.Errorf("%s has the unknown state %q", recordFileName, base.Printable(string(rec.State), 80))
	}
	if (rec.State.Ended() || rec.State == StateFinishing) && rec.Outcome == nil {
		return Record{}, fmt.Errorf("%s is %s without an outcome", recordFileName, rec.State)
	}
	if rec.Outcome != nil && !rec.Outcome.State.Ended() {
		return Record{}, fmt.Errorf("%s has the outcome %q, which is no end", recordFileName, base.Printable(string(rec.Outcome.State), 80))
	}
	return rec, nil
}

// modified returns when the first of these files that exists was last written, or
// else the time now.
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
// done. Files that could not be read stay, under another name.
//
// job.json is written first: a crash between the two leaves a job that is
// repaired again, and no command whose payload is missing. If the disk refuses
// the files the job exists in memory, and the next start repairs it again.
func repair(dir string, c commandFile, rec Record, commandErr, recordErr error) *Job {
	damage := joinLine(commandErr, recordErr)
	if c.Command.TestID == "" {
		c.Command.TestID = rec.TestID
	}
	rec.Version, rec.TestID = version, c.Command.TestID
	rec.AskTest = rec.TestID == ""
	if !c.Command.IsJob() {
		c.Command.Type = TypeRunTest // it may have left a benchmark running
	}
	if recordErr != nil || rec.State != StateFinishing && !rec.State.Ended() {
		rec.State, rec.ChangedAt, rec.Outcome = StateRunning, time.Now(), damagedOutcome(dir)
	}
	j := newJob(dir, c, rec)
	j.Damage = damage
	if recordErr != nil {
		moveAside(j.Path(recordFileName))
	}
	err := writeJSON(j.Path(recordFileName), rec)
	j.unsaved = err != nil
	if err == nil && commandErr != nil {
		moveAside(j.Path(commandFileName))
		err = writeJSON(j.Path(commandFileName), c)
	}
	if err != nil {
		j.Damage = joinLine(damage, err)
	}
	return j
}

// joinLine returns both errors as one, on one line; either may be nil.
func joinLine(err, other error) error {
	switch {
	case err == nil:
		return other
	case other == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, other)
}

// moveAside keeps a file that could not be read under another name, if it exists.
func moveAside(path string) {
	// If that fails, so does the write that follows, or it replaces the file.
	_ = os.Rename(path, path+damagedSuffix+time.Now().UTC().Format("20060102T150405.000000000"))
}

// damagedOutcome is how a job ends whose files could not be read.
func damagedOutcome(dir string) *Outcome {
	return &Outcome{
		State:    StateFailed,
		Error:    "the agent's record of this job was damaged, so the job was ended; what is left of it is kept on the machine",
		Class:    "damaged",
		Fix:      "look into " + dir,
		ExitCode: -1,
	}
}
