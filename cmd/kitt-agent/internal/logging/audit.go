package logging

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"
)

// Bounds of an audit trail: its files, the last one being written, and how many entries
// wait for the disk.
const (
	auditMegabytes = 5
	auditFiles     = 9
	auditWaiting   = 1024
	auditClose     = time.Second
)

// A Trail is an audit trail: a file with an entry in JSON on each line, rotated. Its
// methods are safe for concurrent use. Write waits for no disk: what a disk that hangs
// or floods leaves no room for is counted, and the next entry says how much that was.
type Trail struct {
	file    io.WriteCloser
	failed  func(error)
	entries chan []byte
	done    chan struct{}

	mu     sync.Mutex
	closed bool // guarded by mu
	lost   int  // guarded by mu
}

// OpenTrail returns the trail in the file at path, which only its owner can read. An
// error of the disk is given to failed, which is called in a goroutine of the trail's.
func OpenTrail(path string, failed func(error)) (*Trail, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	t := &Trail{
		file:    &timberjack.Logger{Filename: path, MaxSize: auditMegabytes, MaxBackups: auditFiles, FileMode: 0o600, Compression: "none"},
		failed:  failed,
		entries: make(chan []byte, auditWaiting), done: make(chan struct{}),
	}
	go t.run()
	return t, nil
}

// run writes entries until Close.
func (t *Trail) run() {
	defer close(t.done)
	for line := range t.entries {
		if _, err := t.file.Write(line); err != nil {
			t.failed(err)
		}
	}
	if err := t.file.Close(); err != nil {
		t.failed(err)
	}
}

// Write appends an entry, which JSON can hold.
func (t *Trail) Write(entry any) {
	line, err := json.Marshal(entry)
	if err != nil {
		t.failed(err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if t.lost > 0 {
		note, _ := json.Marshal(map[string]any{"time": time.Now(), "lost_entries": t.lost})
		line = append(append(note, '\n'), line...)
	}
	select {
	case t.entries <- append(line, '\n'):
		t.lost = 0
	default:
		t.lost++
	}
}

// Close writes the entries that wait, for up to a second. It may be called twice.
func (t *Trail) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.entries)
	}
	t.mu.Unlock()
	select {
	case <-t.done:
		return nil
	case <-time.After(auditClose):
		return errors.New("the audit trail was not written to its end: the disk takes too long")
	}
}
