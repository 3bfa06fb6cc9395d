package slurm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kirizan/kitt-agent/internal/base"
)

// A Status is what squeue said last of a job, for people. The file status.json has it.
type Status struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	State   string    `json:"state"` // as squeue prints it in full
	Reason  string    `json:"reason,omitempty"`
	Start   time.Time `json:"start,omitzero"` // when it started or is expected to
	Nodes   string    `json:"nodes,omitempty"`
}

func (s Status) version() int { return s.Version }

// String returns the status for a person, such as "17 on n1" or "17 waits: Resources;
// expected start 14:05".
func (s Status) String() string {
	e := entry{ID: s.ID, State: s.State}
	switch {
	case e.waiting():
		text := s.ID + " waits"
		if s.Reason != "" {
			text += ": " + base.Printable(s.Reason, 100)
		}
		if !s.Start.IsZero() {
			text += "; expected start " + s.Start.Local().Format("2006-01-02 15:04")
		}
		return text
	case s.Nodes != "":
		return fmt.Sprintf("%s on %s", s.ID, base.Printable(s.Nodes, 100))
	}
	return s.ID
}

// ReadStatus returns the status of the job whose directory is jobDir, a runner.Job's Dir.
// ok is false for one that was not submitted to Slurm. No agent need run.
func ReadStatus(jobDir string) (s Status, ok bool) {
	dir := filepath.Join(jobDir, kind)
	s, err := readState[Status](dir, statusFile)
	if err == nil {
		return s, isID(s.ID)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return Status{}, false
	}
	ids, err := readState[submitted](dir, submittedFile)
	if err != nil || len(ids.IDs) == 0 {
		return Status{}, false
	}
	id := ids.IDs[len(ids.IDs)-1]
	return Status{Version: version, ID: id, State: "PENDING"}, isID(id)
}

// saveStatus replaces status.json where the job's state has changed. It is not worth
// waiting for the disk.
func (f *follower) saveStatus(e entry, found bool) {
	s := Status{Version: version, ID: e.ID, State: e.State, Reason: e.Reason, Start: e.Start, Nodes: e.Nodes}
	if !found || s == f.saved {
		return
	}
	text, err := json.Marshal(s)
	if err != nil {
		return
	}
	dir := directory(f.job)
	t, err := renameio.NewPendingFile(filepath.Join(dir, statusFile), renameio.WithTempDir(dir), renameio.WithPermissions(0o600))
	if err != nil {
		return
	}
	defer t.Cleanup() //nolint:errcheck // it is nothing once the file is in place
	if _, err := t.Write(text); err != nil {
		return
	}
	if t.CloseAtomicallyReplace() == nil {
		f.saved = s
	}
}
