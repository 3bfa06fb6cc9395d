package modelcopy

import (
	"sync/atomic"
	"time"
)

// An OpTimer shows which operation on a file system one goroutine is in, and
// since when. The zero value is in none. One goroutine calls Begin and End, any
// may call Current.
type OpTimer struct {
	since atomic.Int64 // nanoseconds since 1970; 0 outside of an operation
	op    atomic.Pointer[string]
	path  atomic.Pointer[string]
}

// Operations of this package, for Begin.
var (
	opOpen  = "open"
	opList  = "list"
	opStat  = "stat"
	opRead  = "read"
	opClose = "close"
)

// Begin starts the timer. It takes pointers so that it allocates nothing. The texts
// must never change: Current may read them later.
func (t *OpTimer) Begin(op, path *string) {
	t.op.Store(op)
	t.path.Store(path)
	t.since.Store(time.Now().UnixNano())
}

// End stops the timer.
func (t *OpTimer) End() { t.since.Store(0) }

// Current returns the operation in progress and when it began, or ok false
// outside of an operation.
func (t *OpTimer) Current() (op, path string, since time.Time, ok bool) {
	began := t.since.Load()
	if began == 0 {
		return "", "", time.Time{}, false
	}
	return *t.op.Load(), *t.path.Load(), time.Unix(0, began), true
}
