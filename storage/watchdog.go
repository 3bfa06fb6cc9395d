package storage

import (
	"context"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
)

// An opTimer shows which operation on a file system one goroutine is in.
type opTimer = modelcopy.OpTimer

// Operations, for opTimer.Begin.
var (
	opOpen  = "open"
	opList  = "list"
	opStat  = "stat"
	opMount = "look for the mount at"
)

// A watchdog keeps the storage usable while a file system hangs. It runs what
// touches the file system in a goroutine of its own, and abandons it when one of
// its operations takes longer than timeout. While an abandoned goroutine hangs,
// the watchdog starts nothing on that file system. So the goroutines of at most
// one run hang there.
type watchdog struct {
	timeout time.Duration

	mu      sync.Mutex
	hung    map[string]int           // abandoned runs by file system; guarded by mu
	probing map[string]chan struct{} // held by the only probe of a file system; guarded by mu
}

func newWatchdog(timeout time.Duration) *watchdog {
	return &watchdog{timeout: timeout, hung: map[string]int{}, probing: map[string]chan struct{}{}}
}

// run calls f in a goroutine, with one timer for each of the n goroutines that f
// may use. It returns when f does, when an operation has taken too long, or
// shortly after ctx is done if f does not return by itself. f must return soon
// after its context is done unless an operation hangs. It must not touch what its
// caller uses after an abandoned run, and it closes what it opened.
func (w *watchdog) run(ctx context.Context, fileSystem string, n int, f func(ctx context.Context, timers []*opTimer) error) error {
	if w.isHung(fileSystem) {
		return fault.New(ClassHung, "check the server, then: sudo umount -f -l "+fileSystem, "%q does not answer: an earlier operation on it still hangs", fileSystem)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timers := make([]*opTimer, n)
	for i := range timers {
		timers[i] = new(opTimer)
	}
	done := make(chan error, 1)
	go func() { done <- f(ctx, timers) }()

	tick := time.NewTicker(max(w.timeout/16, time.Millisecond))
	defer tick.Stop()
	cancelled := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-cancelled:
			cancelled = nil
			grace = time.After(min(w.timeout, 2*time.Second))
		case <-grace:
			w.abandon(fileSystem, done)
			return context.Cause(ctx)
		case now := <-tick.C:
			if err := w.check(fileSystem, timers, now); err != nil {
				cancel(err)
				w.abandon(fileSystem, done)
				return err
			}
		}
	}
}

func (w *watchdog) isHung(fileSystem string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hung[fileSystem] > 0
}

// check returns an error if an operation takes too long.
func (w *watchdog) check(fileSystem string, timers []*opTimer, now time.Time) error {
	for _, t := range timers {
		op, path, since, ok := t.Current()
		if ok && now.Sub(since) >= w.timeout {
			return fault.New(ClassHung, "check the server, then: sudo umount -f -l "+fileSystem,
				"%q does not answer: %s %q took longer than %v", fileSystem, op, path, w.timeout)
		}
	}
	return nil
}

// abandon counts a run as hung until it ends.
func (w *watchdog) abandon(fileSystem string, done <-chan error) {
	w.mu.Lock()
	w.hung[fileSystem]++
	w.mu.Unlock()
	go func() {
		<-done
		w.mu.Lock()
		w.hung[fileSystem]--
		w.mu.Unlock()
	}()
}

// probe is run for one short operation, with at most one at a time for each file
// system.
func (w *watchdog) probe(ctx context.Context, fileSystem string, op *string, path string, f func() error) error {
	w.mu.Lock()
	slot := w.probing[fileSystem]
	if slot == nil {
		slot = make(chan struct{}, 1)
		w.probing[fileSystem] = slot
	}
	w.mu.Unlock()
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return w.run(ctx, fileSystem, 1, func(_ context.Context, timers []*opTimer) error {
		timers[0].Begin(op, &path)
		defer timers[0].End()
		return f()
	})
}
