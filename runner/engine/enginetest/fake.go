// Package enginetest has a fake [engine.Manager] and the contract of one as code.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
)

// A Fake is an [engine.Manager] without processes. Its zero value has the three engines
// of [engine.Specs] that can be started, installed, and starts them at once. Set its
// fields before it is used.
type Fake struct {
	Statuses []engine.Status // what is installed; nil means vllm, llama_cpp and ollama
	Lines    []string        // what an engine prints before it is healthy
	Delay    time.Duration   // how long it takes to become healthy
	StartErr error           // what Start returns after Delay

	InstallDelay time.Duration
	InstallErr   error

	mu    sync.Mutex
	runs  map[string]*run // by name; guarded by mu, like all that follows
	calls []string
	began int // engines that were really started
}

// run is an engine that was started.
type run struct {
	launch engine.Launch
	since  time.Time
	ready  bool
	ended  chan struct{} // closed when it has ended
	how    error         // set before that
}

var _ engine.Manager = (*Fake)(nil)

// Calls returns what was called that changes something, such as "start llama_cpp".
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Began returns how many engines were started. A Start that resumes an earlier one
// starts none.
func (f *Fake) Began() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.began
}

// End has a running engine end by itself.
func (f *Fake) End(name string, how error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(name, how)
}

// endLocked ends an engine, if it runs. f.mu must be held.
func (f *Fake) endLocked(name string, how error) {
	if r := f.runs[name]; r != nil {
		r.how = how
		close(r.ended)
		delete(f.runs, name)
	}
}

// Detect returns what is installed and what runs.
func (f *Fake) Detect(ctx context.Context) ([]engine.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.Statuses)
	if all == nil {
		for _, s := range engine.Specs() {
			if s.Startable() {
				all = append(all, engine.Status{Name: s.Name, Installed: true, Path: "/usr/bin/" + s.Name, Version: "1.0", Port: s.Port})
			}
		}
	}
	for i := range all {
		if r := f.runs[all[i].Name]; r != nil {
			launch := r.launch
			all[i].Running, all[i].PID, all[i].Launch, all[i].Since, all[i].Ready = true, 4242, &launch, r.since, r.ready
		}
	}
	return all, ctx.Err()
}

// Install waits for InstallDelay and returns InstallErr.
func (f *Fake) Install(ctx context.Context, name string, out runner.Output) error {
	f.called("install " + name)
	if _, ok := engine.Lookup(name); !ok {
		return engine.ErrUnknown(name)
	}
	if err := out.WriteMessage("installing " + name); err != nil {
		return err
	}
	select {
	case <-time.After(f.InstallDelay):
		return f.InstallErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Start starts an engine, which prints Lines and is healthy after Delay.
func (f *Fake) Start(ctx context.Context, l engine.Launch, from runner.Position, out runner.Output) error {
	f.called("start " + l.Engine)
	spec, ok := engine.Lookup(l.Engine)
	if !ok || !spec.Startable() {
		return engine.ErrUnknown(l.Engine)
	}
	if _, err := spec.Parse(l.Config); err != nil {
		return err
	}
	r, err := f.begin(l)
	if err != nil {
		return err
	}
	printed := runner.Position(0)
	for _, line := range f.Lines {
		if printed += runner.Position(len(line) + 1); printed <= from {
			continue
		}
		if err := out.WriteOutput([]byte(line+"\n"), time.Time{}, printed-runner.Position(len(line)+1)); err != nil {
			return err
		}
	}
	ready := time.NewTimer(f.Delay - time.Since(r.since))
	defer ready.Stop()
	select {
	case <-ready.C:
	case <-r.ended:
		return fmt.Errorf("%s ended before it was healthy: %w", l.Engine, errors.Join(r.how, engine.ErrNotRunning))
	case <-ctx.Done():
		if !errors.Is(context.Cause(ctx), runner.ErrDetach) {
			f.End(l.Engine, nil)
		}
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.StartErr != nil {
		f.endLocked(l.Engine, f.StartErr)
		return f.StartErr
	}
	r.ready = true
	return nil
}

// begin returns the engine that l started before, or starts it.
func (f *Fake) begin(l engine.Launch) (*run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runs {
		if r.launch.ID == l.ID {
			return r, nil
		}
		return nil, fmt.Errorf("%w: %s", engine.ErrRunning, r.launch.Engine)
	}
	r := &run{launch: l, since: time.Now(), ended: make(chan struct{})}
	if f.runs == nil {
		f.runs = map[string]*run{}
	}
	f.runs[l.Engine] = r
	f.began++
	return r, nil
}

// Stop ends an engine at once.
func (f *Fake) Stop(_ context.Context, name string, out runner.Output) error {
	f.called("stop " + name)
	f.mu.Lock()
	running := f.runs[name] != nil
	f.endLocked(name, nil)
	f.mu.Unlock()
	if !running {
		return engine.ErrNotRunning
	}
	return out.WriteMessage(name + " stopped")
}

// Watch returns when an engine ends.
func (f *Fake) Watch(ctx context.Context, name string) error {
	f.mu.Lock()
	r := f.runs[name]
	f.mu.Unlock()
	if r == nil {
		return nil
	}
	select {
	case <-r.ended:
		return r.how
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *Fake) called(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}
