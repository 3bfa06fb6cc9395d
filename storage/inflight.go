package storage

import (
	"context"
	"slices"
	"sync"
	"time"
)

// An inflight is one copy that is being made, for all requests that wait for it.
type inflight struct {
	target   string // below the storage directory
	started  time.Time
	progress progressLog
	cancel   context.CancelCauseFunc
	done     chan struct{}
	err      error // set before done is closed
	waiting  int   // requests; guarded by inflightCopies.mu
}

// inflightCopies are the copies that this storage is making, one for each target.
type inflightCopies struct {
	mu       sync.Mutex
	byTarget map[string]*inflight // by absolute path; guarded by mu
	closed   bool                 // guarded by mu
	work     sync.WaitGroup       // copies, and what follows them in the background
}

func newInflightCopies() *inflightCopies {
	return &inflightCopies{byTarget: map[string]*inflight{}}
}

// wait waits for the copy of the model target in dir. If there is none in progress
// it starts run, which makes the copy. The copy belongs to no single request: it
// continues for requests that join later, and is cancelled when nothing waits.
func (s *inflightCopies) wait(ctx context.Context, dir *modelDir, target string, run func(context.Context, *inflight) error, out *requestLog) error {
	key := dir.abs(target)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	f := s.byTarget[key]
	if f != nil && f.waiting == 0 { // it was cancelled and is ending
		s.mu.Unlock()
		return f.waitForEnd(ctx)
	}
	shared := f != nil
	if !shared {
		f = s.startLocked(key, target, run)
	}
	f.waiting++
	s.mu.Unlock()
	defer s.leave(f)
	if shared {
		out.line("another job is already copying " + target + "; sharing its copy")
	}
	return f.wait(ctx, out)
}

// startLocked starts a copy. s.mu must be held.
func (s *inflightCopies) startLocked(key, target string, run func(context.Context, *inflight) error) *inflight {
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &inflight{target: target, started: time.Now(), cancel: cancel, done: make(chan struct{})}
	s.byTarget[key] = f
	s.work.Go(func() {
		f.err = run(ctx, f)
		cancel(nil)
		s.mu.Lock()
		delete(s.byTarget, key)
		s.mu.Unlock()
		close(f.done)
	})
	return f
}

// leave ends one request's wait. The last one cancels the copy and waits for its
// end, which is soon: the watchdog abandons what hangs.
func (s *inflightCopies) leave(f *inflight) {
	s.mu.Lock()
	f.waiting--
	left := f.waiting
	s.mu.Unlock()
	if left == 0 {
		f.cancel(context.Canceled)
		<-f.done
	}
}

// waitForEnd waits for the end of a cancelled copy. It returns errChanged then, so
// that the caller starts another one.
func (f *inflight) waitForEnd(ctx context.Context) error {
	select {
	case <-f.done:
		return errChanged
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait waits for the copy and tells the request of its progress.
func (f *inflight) wait(ctx context.Context, out *requestLog) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	told := 0
	tell := func() {
		for _, text := range f.progress.since(told) {
			out.line(text)
			told++
		}
	}
	for {
		select {
		case <-f.done:
			tell()
			if f.err == nil {
				out.update(f.target, f.progress.meter.get())
			}
			return f.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			tell()
			out.update(f.target, f.progress.meter.get())
		}
	}
}

// transfers lists the copies, the oldest first.
func (s *inflightCopies) transfers() []Transfer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Transfer
	for _, f := range s.byTarget {
		list = append(list, Transfer{Model: f.target, Started: f.started, Waiting: f.waiting, Progress: f.progress.meter.get()})
	}
	slices.SortFunc(list, func(a, b Transfer) int { return a.Started.Compare(b.Started) })
	return list
}

// close cancels all copies and lets none start. It returns a channel that is closed
// when all work has ended.
func (s *inflightCopies) close() <-chan struct{} {
	s.mu.Lock()
	s.closed = true
	for _, f := range s.byTarget {
		f.cancel(errClosed)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.work.Wait()
		close(ended)
	}()
	return ended
}

// A progressLog collects what a copy reports, for requests to read. Its zero value
// is empty.
type progressLog struct {
	meter meter

	mu    sync.Mutex
	notes []string // guarded by mu
}

// maxNotes bounds how many notes, of left-out files and the like, are kept.
const maxNotes = 1000

func (p *progressLog) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.notes) < maxNotes {
		p.notes = append(p.notes, text)
	}
}

// since returns the notes from the n-th on.
func (p *progressLog) since(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.notes[min(n, len(p.notes)):])
}
