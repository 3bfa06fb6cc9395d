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

// output is the runner's way into a job's log.
type output struct {
	log   *logstream.Log
	notes noteWriter // what a runner that resumes says itself

	// plain says that the runner doesn't keep positions, so that all it writes
	// is the benchmark's output; written counts it.
	plain   bool
	mu      sync.Mutex
	written int64
}

var _ runner.Output = (*output)(nil)

func newOutput(log *logstream.Log, resumes bool) *output {
	return &output{log: log, notes: noteWriter{log: log}, plain: !resumes}
}

// Write takes the runner's own words, or all the output of a runner that keeps
// no positions.
func (o *output) Write(p []byte) (int, error) {
	if !o.plain {
		return o.notes.Write(p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.Append(p, time.Now(), logstream.Position{Byte: o.written})
	o.written += int64(len(p))
	return len(p), nil
}

// WriteFrom takes what the benchmark printed. It never fails: what the disk
// could not take is said in the log.
func (o *output) WriteFrom(p []byte, at time.Time, from runner.Position) error {
	o.log.Append(p, at, logstream.Position(from))
	return nil
}

// flush ends a line of the runner's own that was left open. The benchmark's
// stays open: it may go on after a restart.
func (o *output) flush() { o.notes.flush() }

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
