package base

import "sync"

// A Broadcast wakes everybody who waits. Its zero value is ready, its methods are
// safe for concurrent use, and Send never blocks.
type Broadcast struct {
	mu sync.Mutex
	c  chan struct{} // guarded by mu; nil while nobody waits
}

// Wait returns a channel that the next Send closes. Take it before you look at
// what you wait for, so that no change in between is missed.
func (b *Broadcast) Wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c == nil {
		b.c = make(chan struct{})
	}
	return b.c
}

// Send wakes everybody who waits now.
func (b *Broadcast) Send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.c != nil {
		close(b.c)
		b.c = nil
	}
}
