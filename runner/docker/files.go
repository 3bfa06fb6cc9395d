package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/supervisor"
)

// A record is the file run.json in Job.Dir/docker. It is written before the
// container is created, and again with each thing that is known then.
type record struct {
	Version     int       `json:"version"`
	Job         string    `json:"job"`
	Image       string    `json:"image"` // ID
	ImageName   string    `json:"image_name,omitempty"`
	ImageDigest string    `json:"image_digest,omitempty"`
	At          time.Time `json:"at"`                  // when it was written first
	Boot        string    `json:"boot"`                // the kernel's boot ID
	Kills       int64     `json:"kills"`               // see kernelKills
	Siblings    []string  `json:"siblings"`            // IDs of the engine containers that were there before
	Container   string    `json:"container,omitempty"` // ID, once it was created
	End         *end      `json:"end,omitempty"`       // once all of its output was passed on

	Stopped bool `json:"stopped,omitempty"` // whether this agent ended it

	// Supervised says that the container has a supervisor, whose files are in
	// Job.Dir/run. Agents that don't know the key follow the container by what
	// the engine says, and don't take it for completed: see supervisor.StatusDone.
	Supervised bool `json:"supervised,omitempty"`
}

// An end is how a container ended. It is kept because the container itself is
// removed then.
type end struct {
	Code     int       `json:"code"`
	OOM      bool      `json:"oom,omitempty"`
	Signal   string    `json:"signal,omitempty"` // only of a supervised run
	Detail   string    `json:"detail,omitempty"`
	SeenGPUs *int      `json:"seen_gpus,omitempty"` // from inside; nil if unknown
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
}

const (
	version   = 1
	maxRecord = 4 << 20 // bytes
)

// patiently calls do until its error is not the machine's, as base.Persist does, and
// says what it waits for.
func patiently[T any](ctx context.Context, say func(string, ...any), do func() (T, error)) (T, error) {
	return base.Persist(ctx, func(err error) { say("waiting for the files of the run: %v", err) }, do)
}

func recordPath(job runner.Job) string { return filepath.Join(job.Dir, kind, "run.json") }

func writeRecord(job runner.Job, rec record) error {
	path := recordPath(job)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = base.WriteJSON(path, rec, maxRecord)
	}
	if err != nil {
		return fmt.Errorf("note down the run: %w", err)
	}
	return nil
}

// readRecord returns the job's record. That there is none is no error. With an
// error the record is empty.
func readRecord(job runner.Job) (rec record, found bool, err error) {
	path := recordPath(job)
	err = base.ReadJSON(path, &rec, maxRecord)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return record{}, false, nil
	case err != nil:
		return record{}, false, err
	case rec.Version > version && rec.Job == job.ID:
		return record{}, false, fmt.Errorf("%s: version %d: %w", path, rec.Version, supervisor.ErrVersion)
	case rec.Version != version || rec.Job != job.ID:
		return record{}, false, fmt.Errorf("%s: version %d of job %q is not understood", path, rec.Version, rec.Job)
	}
	return rec, true, nil
}
