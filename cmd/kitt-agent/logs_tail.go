package main

import (
	"sync"
	"time"
)

// A logTail holds back all lines of a log but the last, until the log's end or the
// first pause. After that it passes lines on.
type logTail struct {
	lines int // how many are kept

	mu     sync.Mutex
	held   []func() error // guarded by mu
	passes bool           // guarded by mu
	pause  *time.Timer    // guarded by mu
	failed error          // of writing held lines at a pause; guarded by mu
}

// line writes a line with write, at once or later.
func (t *logTail) line(write func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failed != nil:
		return t.failed
	case t.passes:
		return write()
	case t.pause == nil:
		t.pause = time.AfterFunc(quiet, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.failed = t.releaseLocked()
		})
	default:
		t.pause.Reset(quiet)
	}
	if t.held = append(t.held, write); len(t.held) > t.lines {
		t.held[0] = nil
		t.held = t.held[1:]
	}
	return nil
}

// release writes the lines that are held.
func (t *logTail) release() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return t.failed
	}
	return t.releaseLocked()
}

func (t *logTail) releaseLocked() error {
	t.passes = true
	if t.pause != nil {
		t.pause.Stop()
	}
	for _, write := range t.held {
		if err := write(); err != nil {
			return err
		}
	}
	t.held = nil
	return nil
}
