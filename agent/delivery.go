package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"
)

// ledger is the file delivery of a job: what the server has accepted of its
// reports. It changes with every line that is shipped, so it is written over in
// place, without waiting for the disk: a crash of the agent loses nothing of
// it, and what a power cut takes back is settled by asking the server.
type ledger struct {
	Version int  `json:"version"`
	Started bool `json:"started"` // the server knows that the test runs

	// Next is the sequence number of the first log record that isn't settled,
	// Lines how many lines the server was sent before it.
	Next  int64 `json:"next"`
	Lines int64 `json:"lines"`

	Log      bool `json:"log"`      // the whole log is settled
	Tried    bool `json:"tried"`    // the result was sent at least once
	Result   bool `json:"result"`   // the result is settled
	Terminal bool `json:"terminal"` // the final status is settled

	// Refused is the server's word on why part of it was not taken.
	Refused string `json:"refused,omitempty"`
}

// settled reports whether nothing is left to tell the server.
func (l ledger) settled() bool { return l.Log && l.Result && l.Terminal }

// ledgerSize is the length of the file. The text is padded with blanks, so that
// one write replaces all of it.
const ledgerSize = 1024

// delivery keeps a job's ledger on disk.
type delivery struct {
	mu  sync.Mutex
	now ledger
	f   *os.File // nil where the file could not be opened
}

// openDelivery reads the ledger at path, an empty one if there is none or if it
// cannot be read: the server is asked what it holds then.
func openDelivery(path string) (*delivery, error) {
	d := &delivery{now: ledger{Version: recordVersion}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d, err
	}
	d.f = f
	d.now = readLedger(f)
	return d, nil
}

func readLedger(f *os.File) ledger {
	empty := ledger{Version: recordVersion}
	text := make([]byte, ledgerSize)
	n, _ := f.ReadAt(text, 0)
	var l ledger
	if err := json.Unmarshal(bytes.TrimSpace(text[:n]), &l); err != nil || l.Next < 0 || l.Lines < 0 {
		return empty
	}
	return l
}

// peekLedger returns the ledger at path without keeping it open.
func peekLedger(path string) ledger {
	f, err := os.Open(path)
	if err != nil {
		return ledger{}
	}
	defer f.Close()
	return readLedger(f)
}

func (d *delivery) get() ledger {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// set changes the ledger. What cannot be written is kept in memory: the file is
// as long as it will ever be, so only a broken disk refuses it.
func (d *delivery) set(change func(*ledger)) error {
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
	if len(text) >= ledgerSize {
		// Only the server's word can be that long.
		short := d.now
		short.Refused = "refused"
		if text, err = json.Marshal(short); err != nil {
			return err
		}
	}
	padded := append(bytes.Repeat([]byte{' '}, ledgerSize-1), '\n')
	copy(padded, text)
	_, err = d.f.WriteAt(padded, 0)
	return err
}

// sync makes what was written last through a power cut.
func (d *delivery) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.f == nil {
		return nil
	}
	return d.f.Sync()
}

// Close closes the file; it may be called more than once.
func (d *delivery) Close() error {
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
