package logging

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/DeRuina/timberjack"
)

// Bounds of an audit trail: its files, the last one being written.
const (
	auditMegabytes = 5
	auditFiles     = 9
)

// A Trail is an audit trail: a file with an entry in JSON on each line, rotated. Its
// methods are safe for concurrent use. Write waits for no disk: what a disk that hangs
// or floods leaves no room for is counted, and the next entry says how much that was.
type Trail struct {
	queue  *lineQueue
	failed func(error)
}

// OpenTrail returns the trail in the file at path, which only its owner can read. An
// error of the disk is given to failed, which is called in a goroutine of the trail's.
func OpenTrail(path string, failed func(error)) (*Trail, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file := &timberjack.Logger{Filename: path, MaxSize: auditMegabytes, MaxBackups: auditFiles, FileMode: 0o600, Compression: "none"}
	return &Trail{queue: newLineQueue(file, maxWaiting, lostEntries, failed), failed: failed}, nil
}

// lostEntries returns the entry that says how many are missing.
func lostEntries(lost int) []byte {
	note, _ := json.Marshal(map[string]any{"time": time.Now(), "lost_entries": lost})
	return append(note, '\n')
}

// Write appends an entry, which JSON can hold.
func (t *Trail) Write(entry any) {
	line, err := json.Marshal(entry)
	if err != nil {
		t.failed(err)
		return
	}
	_, _ = t.queue.Write(append(line, '\n')) // it never fails
}

// Close writes the entries that wait, for up to a second. It may be called twice.
func (t *Trail) Close() error {
	if err := t.queue.Close(); err != nil {
		return fmt.Errorf("audit trail: %w", err)
	}
	return nil
}
