// Package basetest has what the tests of several packages share.
package basetest

import (
	"bytes"
	"sync"
)

// A Buffer keeps what is written to it, and can be read meanwhile: it is a log that a
// test looks at while the program writes it. Its zero value is ready, and its methods
// are safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends p. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
