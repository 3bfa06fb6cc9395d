package storage

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A pulse is one goroutine's sign of life: which operation on a file system it
// is in, and since when.
type pulse struct {
	since atomic.Int64 // nanoseconds since 1970; 0 outside of an operation
	doing atomic.Pointer[string]
	path  atomic.Pointer[string]
}

// Operations, for pulse.begin.
var (
	opOpen  = "open"
	opList  = "list"
	opStat  = "look at"
	opRead  = "read"
	opClose = "close"
	opMount = "look for the mount at"
)

func (p *pulse) begin(op, path *string) {
	p.doing.Store(op)
	p.path.Store(path)
	p.since.Store(time.Now().UnixNano())
}

func (p *pulse) end() { p.since.Store(0) }

// gates keep a file system that does not answer from wedging us. What touches
// one runs in a goroutine of its own that shows its pulse; when an operation
// takes longer than timeout it is left behind. While anything that was left
// behind hangs, nothing new is begun there, so no more than one run's
// goroutines can ever hang on one mount.
type gates struct {
	timeout time.Duration

	mu    sync.Mutex
	stuck map[string]int           // runs left behind, by gate
	turn  map[string]chan struct{} // one probe at a time, by gate
}

func newGates(timeout time.Duration) *gates {
	return &gates{timeout: timeout, stuck: map[string]int{}, turn: map[string]chan struct{}{}}
}

// run calls f in a goroutine, with one pulse for each of the n goroutines that
// f may use. It returns when f does, or when one pulse has stood still too long,
// or a little after ctx is done if f does not return by itself. f must return
// soon after its context is done unless an operation hangs, must not touch what
// its caller goes on to use once it was left behind, and frees what it opened.
func (g *gates) run(ctx context.Context, gate string, n int, f func(ctx context.Context, pulses []*pulse) error) error {
	g.mu.Lock()
	if g.stuck[gate] > 0 {
		g.mu.Unlock()
		return fail(ClassHung, "check the server, then: sudo umount -f -l "+gate, "%q does not answer: an earlier operation on it still hangs", gate)
	}
	g.mu.Unlock()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pulses := make([]*pulse, n)
	for i := range pulses {
		pulses[i] = new(pulse)
	}
	done := make(chan error, 1)
	go func() { done <- f(ctx, pulses) }()

	tick := time.NewTicker(max(g.timeout/16, time.Millisecond))
	defer tick.Stop()
	cancelled := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-cancelled:
			cancelled = nil
			grace = time.After(min(g.timeout, 2*time.Second))
		case <-grace:
			g.leave(gate, done)
			return context.Cause(ctx)
		case now := <-tick.C:
			for _, p := range pulses {
				since := p.since.Load()
				if since == 0 || now.Sub(time.Unix(0, since)) < g.timeout {
					continue
				}
				err := fail(ClassHung, "check the server, then: sudo umount -f -l "+gate,
					"%q does not answer: %s %q took longer than %v", gate, *p.doing.Load(), *p.path.Load(), g.timeout)
				cancel(err)
				g.leave(gate, done)
				return err
			}
		}
	}
}

// leave counts a run that hangs until it ends.
func (g *gates) leave(gate string, done <-chan error) {
	g.mu.Lock()
	g.stuck[gate]++
	g.mu.Unlock()
	go func() {
		<-done
		g.mu.Lock()
		g.stuck[gate]--
		g.mu.Unlock()
	}()
}

// probe is run for one short operation, of which there is never more than one
// at a time.
func (g *gates) probe(ctx context.Context, gate string, op *string, path string, f func() error) error {
	g.mu.Lock()
	turn := g.turn[gate]
	if turn == nil {
		turn = make(chan struct{}, 1)
		g.turn[gate] = turn
	}
	g.mu.Unlock()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return g.run(ctx, gate, 1, func(_ context.Context, pulses []*pulse) error {
		pulses[0].begin(op, &path)
		defer pulses[0].end()
		return f()
	})
}
