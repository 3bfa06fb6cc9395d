package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
)

// A checkpoint is the file "delivery" of a job: what the server has accepted of its
// reports. It changes with every line that is sent, so it is overwritten in place,
// without waiting for the disk. A crash of the agent loses nothing of it; after a
// power cut that takes some of it back, the server is asked what it holds.
type checkpoint struct {
	Version int  `json:"version"`
	Started bool `json:"started"` // the server knows that the test runs

	// Next is the sequence number of the first log record that isn't accepted,
	// Lines how many lines the server was sent before it.
	Next  int64 `json:"next"`
	Lines int64 `json:"lines"`

	Log      bool `json:"log"`      // the whole log is accepted
	Tried    bool `json:"tried"`    // the result was sent at least once
	Result   bool `json:"result"`   // the result is accepted
	Terminal bool `json:"terminal"` // the final status is accepted

	// Rejected is the server's reason why it rejected a report.
	Rejected string `json:"refused,omitempty"`

	RefusedLines int64 `json:"refused_lines,omitempty"` // lines of which the server has a note instead
	RefusedData  bool  `json:"refused_data,omitempty"`  // whether the result was accepted only without its data

	RefusedReason bool `json:"refused_reason,omitempty"` // whether the final status was accepted only without its reason
}

// refused says which parts of the reports the server has only in a reduced form;
// empty for none.
func (c checkpoint) refused() string {
	var parts []string
	if c.RefusedLines == 1 {
		parts = append(parts, "1 line of the log")
	} else if c.RefusedLines > 1 {
		parts = append(parts, fmt.Sprintf("%d lines of the log", c.RefusedLines))
	}
	if c.RefusedData {
		parts = append(parts, "the result's data (kept in "+jobs.ResultFile+")")
	}
	if c.RefusedReason {
		parts = append(parts, "the reason of the failure")
	}
	if len(parts) == 0 {
		return ""
	}
	return "The server did not take " + strings.Join(parts, " and ") + ": " + c.Rejected
}

// complete reports whether nothing is left to send.
func (c checkpoint) complete() bool { return c.Log && c.Result && c.Terminal }

// checkpointVersion is that of the file's format. Keys are only added.
const checkpointVersion = 1

// checkpointSize is the length of the file in bytes. The text is padded with blanks,
// so that one write replaces all of it.
const checkpointSize = 1024

// A checkpointFile keeps a job's checkpoint on disk.
type checkpointFile struct {
	mu  sync.Mutex // held while the disk works on the file
	now checkpoint // guarded by mu
	f   *os.File   // nil if the file could not be opened. guarded by mu
}

// openCheckpoint reads the checkpoint at path. It is empty if there is none or if it
// cannot be read; the server is then asked what it holds.
func openCheckpoint(path string) (*checkpointFile, error) {
	d := &checkpointFile{now: checkpoint{Version: checkpointVersion}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d, err
	}
	d.f = f
	d.now = readCheckpoint(f)
	return d, nil
}

func readCheckpoint(f *os.File) checkpoint {
	empty := checkpoint{Version: checkpointVersion}
	text := make([]byte, checkpointSize)
	n, _ := f.ReadAt(text, 0)
	var c checkpoint
	if err := json.Unmarshal(bytes.TrimSpace(text[:n]), &c); err != nil || c.Next < 0 || c.Lines < 0 {
		return empty
	}
	return c
}

// peekCheckpoint returns the checkpoint at path without keeping it open.
func peekCheckpoint(path string) checkpoint {
	f, err := base.OpenRegular(path)
	if err != nil {
		return checkpoint{}
	}
	defer f.Close()
	return readCheckpoint(f)
}

func (d *checkpointFile) get() checkpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// set changes the checkpoint. What cannot be written is kept in memory: the file
// has its full length already, so only a broken disk refuses it.
func (d *checkpointFile) set(change func(*checkpoint)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.now)
	if d.f == nil {
		return nil
	}
	text, err := json.Marshal(d.now)
	if err != nil {
		return err
	}
	if len(text) >= checkpointSize {
		// Only the server's reason can be that long.
		short := d.now
		short.Rejected = "rejected"
		if text, err = json.Marshal(short); err != nil {
			return err
		}
	}
	padded := append(bytes.Repeat([]byte{' '}, checkpointSize-1), '\n')
	copy(padded, text)
	_, err = d.f.WriteAt(padded, 0)
	return err
}

// sync makes the checkpoint durable.
func (d *checkpointFile) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.f == nil {
		return nil
	}
	return d.f.Sync()
}

// Close closes the file; it may be called more than once.
func (d *checkpointFile) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.f == nil {
		return nil
	}
	err := d.f.Close()
	d.f = nil
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
