// Package notices holds what an agent tells its operator outside the stream of its
// log: warnings that status shows until they are withdrawn, and what is worth
// logging once.
package notices

import (
	"slices"
	"sync"

	"github.com/kirizan/kitt-agent/logstream"
)

// A Board holds notices. Its zero value is empty, and its methods are safe for
// concurrent use.
type Board struct {
	Secrets logstream.Redactor // for what Warnings returns

	mu       sync.Mutex
	logged   map[string]bool // guarded by mu
	warnings []string        // guarded by mu
}

// LogOnce calls log, unless it was called under the same key before.
func (b *Board) LogOnce(key string, log func()) {
	b.mu.Lock()
	before := b.logged[key]
	if b.logged == nil {
		b.logged = map[string]bool{}
	}
	b.logged[key] = true
	b.mu.Unlock()
	if !before {
		log()
	}
}

// Warn shows a sentence in status.
func (b *Board) Warn(sentence string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.warnings, sentence) {
		b.warnings = append(b.warnings, sentence)
	}
}

// Withdraw removes a sentence from status, and lets LogOnce log again what was
// logged under it.
func (b *Board) Withdraw(sentence string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.logged, sentence)
	b.warnings = slices.DeleteFunc(b.warnings, func(w string) bool { return w == sentence })
}

// Warnings returns the sentences that status shows, in the order in which they
// came, without secrets.
func (b *Board) Warnings() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	warnings := make([]string, len(b.warnings))
	for i, w := range b.warnings {
		warnings[i] = b.Secrets.Text(w)
	}
	return warnings
}
