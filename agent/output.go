package agent

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/logstream"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// output is the [runner.Output] that writes to a job's log. Its methods never
// fail: the log itself says what the disk did not take.
type output struct{ log *logstream.Log }

var _ runner.Output = output{}

// WriteMessage writes each line of text as a line of the agent's own.
func (o output) WriteMessage(text string) error {
	for line := range strings.Lines(text) {
		o.log.Note(strings.TrimRight(line, "\r\n"))
	}
	return nil
}

// WriteOutput appends what the benchmark printed.
func (o output) WriteOutput(p []byte, at time.Time, from runner.Position) error {
	o.log.Append(p, at, logstream.Position(from))
	return nil
}

// noteWriter turns text in pieces of any size into whole lines of the agent's
// own in a job's log.
type noteWriter struct {
	log *logstream.Log

	mu   sync.Mutex
	open []byte
}

// maxOpenNote bounds a line that doesn't end.
const maxOpenNote = 64 << 10

func (w *noteWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, p...)
	for {
		line, rest, ok := bytes.Cut(w.open, []byte("\n"))
		if !ok {
			break
		}
		w.log.Note(strings.TrimSuffix(string(line), "\r"))
		w.open = rest
	}
	if len(w.open) > maxOpenNote {
		w.log.Note(string(w.open))
		w.open = nil
	}
	return len(p), nil
}

func (w *noteWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.open) > 0 {
		w.log.Note(string(w.open))
		w.open = nil
	}
}

// progress holds how far the copy of a job's model is. Its zero value means
// that none is being made.
type progress struct {
	mu  sync.Mutex
	now *storage.Progress
}

func (p *progress) set(now storage.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = &now
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = nil
}

// get returns how far the copy is, nil if none is being made.
func (p *progress) get() *storage.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}
