// Package storagetest supports tests of programs that use package storage: [Fake] is
// a storage that copies nothing, and [Test] checks whether an implementation
// satisfies the contract of [storage.Storage].
package storagetest

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/kirizan/kitt-agent/storage"
)

// A Fake is a [storage.Storage] that copies nothing and records its calls. Its zero
// value provides every model immediately, under its requested name. Set its fields
// before its first use. Its methods are safe for concurrent use.
type Fake struct {
	// Paths are the local paths of models, by requested name. A model without one is
	// an identifier.
	Paths map[string]string

	// Absent are models that don't exist. A request for one fails with
	// [storage.ErrNotFound].
	Absent []string

	// Err, if set, is returned by every Acquire.
	Err error

	// Block, if set, blocks every Acquire until it can receive from it or its context
	// is done.
	Block <-chan struct{}

	// Steps are reported to Request.Progress, in order, before Acquire returns.
	Steps []storage.Progress

	// Lines are written to Request.Log, each followed by a line break.
	Lines []string

	// State and UsageErr are returned by Usage.
	State    storage.Usage
	UsageErr error

	// EvictErr, if set, is returned by Evict.
	EvictErr error

	mu       sync.Mutex
	acquired []storage.Request
	held     map[hold]*storage.Lease
	unleased map[string]bool // copies without a lease
	released []storage.Request
	evicted  []string
	plans    [][]string
	settings []storage.Settings
}

type hold struct{ holder, model string }

var (
	_ storage.Storage    = (*Fake)(nil)
	_ storage.Planner    = (*Fake)(nil)
	_ storage.Configurer = (*Fake)(nil)
)

// Acquire records req and returns what the fields specify, by default a lease on
// req.Model.
func (f *Fake) Acquire(ctx context.Context, req storage.Request) (*storage.Lease, error) {
	f.mu.Lock()
	f.acquired = append(f.acquired, req)
	f.mu.Unlock()
	if f.Block != nil {
		select {
		case <-f.Block:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f.Err != nil {
		return nil, f.Err
	}
	if req.Model == "" || slices.Contains(f.Absent, req.Model) {
		return nil, &storage.Error{Class: storage.ClassNotFound, Text: "there is no model " + req.Model, Err: storage.ErrNotFound}
	}
	for _, line := range f.Lines {
		if req.Log != nil {
			if _, err := io.WriteString(req.Log, line+"\n"); err != nil {
				return nil, err
			}
		}
	}
	for _, step := range f.Steps {
		if req.Progress != nil {
			req.Progress(step)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := hold{req.Holder, req.Model}
	if lease := f.held[h]; lease != nil {
		return lease, nil
	}
	path, origin := req.Model, storage.OriginIdentifier
	if local, ok := f.Paths[req.Model]; ok {
		path, origin = local, storage.OriginCopied
	}
	var lease *storage.Lease
	lease = storage.NewLease(path, origin, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.held[h] == lease {
			delete(f.held, h)
			f.released = append(f.released, req)
			if origin == storage.OriginCopied && !f.heldLocked(req.Model) {
				f.unleased[req.Model] = true
			}
		}
		return nil
	})
	if f.held == nil {
		f.held, f.unleased = map[hold]*storage.Lease{}, map[string]bool{}
	}
	f.held[h] = lease
	delete(f.unleased, req.Model)
	return lease, nil
}

// heldLocked reports whether there is a lease on model. f.mu must be held.
func (f *Fake) heldLocked(model string) bool {
	for h := range f.held {
		if h.model == model {
			return true
		}
	}
	return false
}

// Evict records model and removes copies without a lease. It touches nothing on
// disk.
func (f *Fake) Evict(ctx context.Context, model string) (storage.Eviction, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.evicted = append(f.evicted, model)
	if ctx.Err() != nil {
		return storage.Eviction{}, context.Cause(ctx)
	}
	if f.EvictErr != nil {
		return storage.Eviction{}, f.EvictErr
	}
	if model != "" && slices.Contains(f.Absent, model) {
		return storage.Eviction{}, &storage.Error{Class: storage.ClassNotFound, Text: "there is no model " + model, Err: storage.ErrNotFound}
	}
	var done storage.Eviction
	for h, lease := range f.held {
		if (model == "" || h.model == model) && lease.Origin == storage.OriginCopied {
			done.Kept = append(done.Kept, storage.Kept{Path: lease.Path, Reason: "in use by " + h.holder})
		}
	}
	slices.SortFunc(done.Kept, func(a, b storage.Kept) int { return strings.Compare(a.Path+a.Reason, b.Path+b.Reason) })
	for name := range f.unleased {
		if model == "" || name == model {
			done.Removed = append(done.Removed, f.Paths[name])
			delete(f.unleased, name)
		}
	}
	slices.Sort(done.Removed)
	return done, nil
}

// Usage returns State and UsageErr.
func (f *Fake) Usage(ctx context.Context) (storage.Usage, error) {
	if ctx.Err() != nil {
		return storage.Usage{}, context.Cause(ctx)
	}
	return f.State, f.UsageErr
}

// Plan records models.
func (f *Fake) Plan(models []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plans = append(f.plans, slices.Clone(models))
}

// Settings returns the settings of the last Configure, or zero Settings.
func (f *Fake) Settings() storage.Settings {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.settings) == 0 {
		return storage.Settings{}
	}
	return f.settings[len(f.settings)-1]
}

// Configure records settings.
func (f *Fake) Configure(settings storage.Settings) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings = append(f.settings, settings)
	return nil
}

// Acquired returns all requests, in order.
func (f *Fake) Acquired() []storage.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acquired)
}

// Released returns the requests whose leases have been released, in order.
func (f *Fake) Released() []storage.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.released)
}

// Held returns the models with a lease, sorted, once for each lease.
func (f *Fake) Held() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	models := make([]string, 0, len(f.held))
	for h := range f.held {
		models = append(models, h.model)
	}
	slices.Sort(models)
	return models
}

// Evicted returns the arguments of Evict, in order.
func (f *Fake) Evicted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.evicted)
}

// Plans returns the arguments of Plan, in order.
func (f *Fake) Plans() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.plans)
}

// Configured returns the arguments of Configure, in order.
func (f *Fake) Configured() []storage.Settings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.settings)
}
