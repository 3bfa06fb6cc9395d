package native

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

const (
	// maxBacklog bounds what a relay keeps for a reader who is yet to come, in bytes.
	maxBacklog = 4 << 20

	// maxTail bounds the last output that an error quotes, in bytes, and tailLines its
	// lines.
	maxTail   = 8 << 10
	tailLines = 8
)

// A relay passes an engine's output on to the job that starts it, and keeps its end for
// an error. Once the engine is healthy its output stays in its file alone.
type relay struct {
	mu      sync.Mutex
	out     runner.Output   // nil without a reader; guarded by mu, like all that follows
	from    runner.Position // up to where the reader has the output
	keep    bool            // whether the output is kept for a reader who is yet to come
	backlog []piece
	size    int // bytes in backlog
	tail    []byte
}

// A piece is output that has not been read yet.
type piece struct {
	text []byte
	at   time.Time
	from runner.Position
}

var _ runner.Output = (*relay)(nil)

// attach has what comes after position from written to out, and what is kept of it.
func (r *relay) attach(out runner.Output, from runner.Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out, r.from = out, from
	for _, p := range r.backlog {
		if err := r.passLocked(p); err != nil {
			return err
		}
	}
	r.keep, r.backlog, r.size = false, nil, 0
	return nil
}

// passLocked hands on what the reader doesn't have yet of p. r.mu must be held.
func (r *relay) passLocked(p piece) error {
	if known := r.from - p.from; known >= runner.Position(len(p.text)) {
		return nil
	} else if known > 0 {
		p.text, p.from = p.text[known:], r.from
	}
	return r.out.WriteOutput(p.text, p.at, p.from)
}

// detach has nothing more written to the reader.
func (r *relay) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = nil
}

// WriteOutput implements [runner.Output]. A reader's log is a file of this machine, which
// it holds up no longer than the lock is held.
func (r *relay) WriteOutput(p []byte, at time.Time, from runner.Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tail = append(r.tail, p[max(0, len(p)-maxTail):]...)
	r.tail = slices.Clone(r.tail[max(0, len(r.tail)-maxTail):])
	switch {
	case r.out != nil:
		return r.passLocked(piece{p, at, from})
	case r.keep:
		r.backlog = append(r.backlog, piece{slices.Clone(p), at, from})
		for r.size += len(p); r.size > maxBacklog; r.backlog = r.backlog[1:] {
			r.size -= len(r.backlog[0].text)
		}
	}
	return nil
}

// WriteMessage implements [runner.Output].
func (r *relay) WriteMessage(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out == nil {
		return nil
	}
	return r.out.WriteMessage(text)
}

// lastLines returns the end of the output, fit to print; empty if there was none.
func (r *relay) lastLines() string {
	r.mu.Lock()
	text := string(r.tail)
	r.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, line := range lines {
		lines[i] = base.Printable(strings.TrimSpace(line), 300)
	}
	return strings.Join(lines, " | ")
}
