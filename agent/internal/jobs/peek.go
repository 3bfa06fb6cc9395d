package jobs

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
)

// Peek returns the test and the state of the job in dir, as they are on disk. It
// repairs nothing, so it may be called while an agent runs. What is known comes with
// an error too.
func Peek(dir string) (testID string, state State, err error) {
	c, _ := readCommand(dir, filepath.Base(dir)) // a job whose command is unreadable is still one
	var rec Record
	err = readJSON(filepath.Join(dir, recordFileName), &rec)
	return cmp.Or(c.Command.TestID, rec.TestID), rec.State, err
}

// A Stored is a job as it is on disk.
type Stored struct {
	Command    Command
	Source     Source
	AcceptedAt time.Time // zero if command.json cannot be read
	Record     Record
}

// Read returns the job in dir, as Peek does. What is known comes with an error too.
func Read(dir string) (Stored, error) {
	c, commandErr := readCommand(dir, filepath.Base(dir))
	rec, recordErr := readRecord(dir)
	if commandErr != nil {
		c.AcceptedAt = time.Time{} // it is the file's
	}
	return Stored{Command: c.Command, Source: c.Source, AcceptedAt: c.AcceptedAt, Record: rec}, errors.Join(commandErr, recordErr)
}

// ReadLog calls emit with each line that the log of the job in dir has now. A state
// of a progress bar that the next one replaced is not a line. It returns emit's
// error.
func ReadLog(ctx context.Context, dir string, emit func(line string) error) error {
	log, err := logstream.Open(filepath.Join(dir, logFileName), logstream.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer log.Close()
	reader := log.Reader(0)
	defer reader.Close()
	for reader.Seq() < log.Len() {
		records, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Repeats() {
				continue
			}
			if err := emit(r.Text); err != nil {
				return err
			}
		}
	}
	return nil
}
