package logging

import (
	"errors"
	"io"
	"sync"
	"time"
)

// Bounds of a lineQueue: the lines that wait for the disk, their bytes, and how long
// Close waits.
const (
	maxWaiting      = 1024
	maxWaitingBytes = 8 << 20
	closeLimit      = time.Second
)

// A lineQueue writes lines to a file in a goroutine of its own, so that its callers wait
// for no disk. The lines for which a disk that hangs or is slow leaves no room are counted,
// and the next line is preceded by a note of how many they are. Its methods are safe for
// concurrent use.
type lineQueue struct {
	file   io.WriteCloser
	note   func(lost int) []byte // a line
	failed func(error)
	lines  chan []byte
	done   chan struct{}

	mu     sync.Mutex
	closed bool // guarded by mu
	lost   int  // guarded by mu
	bytes  int  // of the lines that wait. guarded by mu
}

// newLineQueue returns a queue of at most waiting lines. An error of the file is given to
// failed, which is called in a goroutine of the queue's.
func newLineQueue(file io.WriteCloser, waiting int, note func(lost int) []byte, failed func(error)) *lineQueue {
	q := &lineQueue{file: file, note: note, failed: failed, lines: make(chan []byte, waiting), done: make(chan struct{})}
	go q.run()
	return q
}

// run writes lines until Close.
func (q *lineQueue) run() {
	defer close(q.done)
	for line := range q.lines {
		if _, err := q.file.Write(line); err != nil {
			q.failed(err)
		}
		q.mu.Lock()
		q.bytes -= len(line)
		q.mu.Unlock()
	}
	if err := q.file.Close(); err != nil {
		q.failed(err)
	}
}

// Write queues a line, which it copies. It never fails.
func (q *lineQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return len(line), nil
	}
	var text []byte
	if q.lost > 0 {
		text = q.note(q.lost)
	}
	text = append(text, line...)
	if q.bytes+len(text) > maxWaitingBytes {
		q.lost++
		return len(line), nil
	}
	select {
	case q.lines <- text:
		q.lost = 0
		q.bytes += len(text)
	default:
		q.lost++
	}
	return len(line), nil
}

// Close writes the lines that wait, for up to a second. It may be called twice.
func (q *lineQueue) Close() error {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	late := time.NewTimer(closeLimit)
	defer late.Stop()
	select {
	case <-q.done:
		return nil
	case <-late.C:
		return errors.New("the file was not written to its end: the disk takes too long")
	}
}
