package execution

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
)

// Bounds of the remarks on one job.
const (
	remarksLimit = 2 * time.Second // to get them
	maxRemarks   = 10
	maxRemark    = 500 // characters
)

// A remarker asks the program for remarks on results. One that does not answer is left
// alone until it has: there is at most one call.
type remarker struct {
	ask  func(ctx context.Context, dir string) ([]string, error)
	busy atomic.Bool
}

// remarks asks for remarks on the job in dir. The goroutine of a call that ignores ctx
// outlives it.
func (r *remarker) remarks(ctx context.Context, dir string) ([]string, error) {
	if !r.busy.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("an earlier call has not returned")
	}
	type answer struct {
		said []string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		defer r.busy.Store(false)
		defer func() {
			if p := recover(); p != nil {
				answers <- answer{err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
			}
		}()
		said, err := r.ask(ctx, dir)
		answers <- answer{said, err}
	}()
	select {
	case a := <-answers:
		return a.said, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// remark notes in the job's log what the program remarks on its result. It takes at most
// remarksLimit, and nothing about it fails the job.
func (x *execution) remark(ctx context.Context) {
	if x.remarker.ask == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, remarksLimit)
	defer cancel()
	said, err := x.remarker.remarks(ctx, x.job.Dir)
	if err != nil {
		x.log.WarnContext(ctx, "no remarks on a result", "job", x.job.ID, "err", err)
	}
	for _, text := range said[:min(len(said), maxRemarks)] {
		x.jobLog.Note(base.Printable(base.OneLine(text), maxRemark))
	}
}
