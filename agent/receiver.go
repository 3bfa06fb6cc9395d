package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/execution"
	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/agent/internal/notices"
	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/base"
)

const (
	// maxWaiting is how many jobs wait at most. Commands beyond that stay with the
	// server, which calls them dispatched, and are looked up later.
	maxWaiting = 20_000

	// lookUpFull is when they are.
	lookUpFull = 10 * time.Minute
)

// A receiver accepts the server's commands: each is written to disk, so it may take long
// for many, and heartbeats don't wait for it. Its methods are safe for concurrent use.
type receiver struct {
	log     *slog.Logger
	notices *notices.Board
	queue   *execution.Queue
	accept  func(context.Context, heartbeat.Command, jobs.Source)
	later   func(time.Duration) // has lost commands looked up after that time

	mu      sync.Mutex
	pending []pendingCommand // guarded by mu
	added   base.Broadcast
}

// A pendingCommand has arrived, and is not accepted yet.
type pendingCommand struct {
	heartbeat.Command
	source jobs.Source
}

// receive takes a command in. It waits for nothing.
func (r *receiver) receive(ctx context.Context, cmd heartbeat.Command, source jobs.Source) {
	r.mu.Lock()
	full := len(r.pending)+r.queue.Len() >= maxWaiting // a few that are being accepted come on top
	if !full {
		r.pending = append(r.pending, pendingCommand{cmd, source})
	}
	r.mu.Unlock()
	if !full {
		r.added.Send()
		return
	}
	r.later(lookUpFull)
	r.notices.LogOnce("too many jobs", func() {
		r.log.WarnContext(ctx, "too many jobs wait; further commands stay dispatched on the server and are looked up later", "limit", maxWaiting)
	})
}

// run accepts commands until ctx is done. Those that are left are looked up by the next
// start.
func (r *receiver) run(ctx context.Context) {
	for {
		added := r.added.Wait()
		for _, cmd := range r.take() {
			if ctx.Err() != nil {
				return
			}
			r.accept(ctx, cmd.Command, cmd.source)
		}
		select {
		case <-added:
		case <-ctx.Done():
			return
		}
	}
}

// take returns the next few commands: those that are left count as waiting.
func (r *receiver) take() []pendingCommand {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.pending), 100)
	next := r.pending[:n:n]
	r.pending = r.pending[n:]
	if len(r.pending) > 0 {
		r.added.Send()
	}
	return next
}
