package enginejobs

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/runner/engine"
	"github.com/kirizan/kitt-agent/storage"
)

// leaseTimeout bounds how long the lease of an engine that runs is waited for.
const leaseTimeout = 10 * time.Second

// A watched engine was started, and its lease ends with it.
type watched struct {
	launch engine.Launch
	lease  *storage.Lease // nil without a model
}

// watch hands an engine to Run.
func (e *Jobs) watch(ctx context.Context, w watched) error {
	select {
	case e.started <- w:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // it is healthy, and the next agent sees that
	}
}

// Run looks after the engines that run, until ctx is done. They go on then, and keep
// their leases.
func (e *Jobs) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	e.startAllAgain()
	for _, w := range e.resume(ctx) {
		watching.Go(func() { e.await(ctx, w) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-e.started:
			watching.Go(func() { e.await(ctx, w) })
		}
	}
}

// resume returns the engines that an agent before this one started, with their leases. It
// ends one whose job did not live to see it healthy, and leases of engines that are gone.
func (e *Jobs) resume(ctx context.Context) (running []watched) {
	all, err := e.cfg.Manager.Detect(ctx)
	if err != nil {
		e.log.Warn("engines of an earlier agent not checked", "err", err)
		return nil
	}
	holders := map[string]bool{}
	for _, s := range all {
		switch {
		case s.Launch == nil:
			continue
		case s.Ready:
			running = append(running, watched{*s.Launch, e.renew(ctx, *s.Launch)})
		case !e.cfg.Live(s.Launch.ID):
			e.log.Warn("engine stopped, since nothing waits for it", "engine", s.Name)
			if err := e.cfg.Manager.Stop(ctx, s.Name, silent{}); err != nil {
				e.log.Error("engine not stopped", "engine", s.Name, "err", err)
			}
			continue
		}
		holders[e.holder(s.Name, s.Launch.ID)] = true
	}
	e.releaseExcept(ctx, holders)
	return running
}

// renew gets the lease of an engine again that runs. It has its model, so a storage that
// can't answer changes nothing.
func (e *Jobs) renew(ctx context.Context, l engine.Launch) *storage.Lease {
	spec, _ := engine.Lookup(l.Engine)
	if l.Model == "" || spec.ModelFlag == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	lease, err := e.cfg.Storage.Acquire(ctx, storage.Request{Model: l.Model, Holder: e.holder(l.Engine, l.ID)})
	if err != nil {
		e.log.Warn("lease of an engine not renewed", "engine", l.Engine, "model", l.Model, "err", err)
		return nil
	}
	return lease
}

// releaseExcept ends the leases of engines that are gone.
func (e *Jobs) releaseExcept(ctx context.Context, holders map[string]bool) {
	keeper, ok := storage.As[storage.LeaseKeeper](e.cfg.Storage)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	released, err := keeper.ReleaseExcept(ctx, func(holder string) bool {
		return !base.Within(e.holders(), holder) || holders[holder] || e.cfg.Live(filepath.Base(holder))
	})
	if err != nil {
		e.log.Warn("leases of engines that ended not released", "err", err)
	}
	for _, holder := range released {
		e.log.Info("lease of an engine that ended released", "engine", base.Printable(filepath.Base(filepath.Dir(holder)), 64))
	}
}

// await waits until an engine has ended, and releases its lease.
func (e *Jobs) await(ctx context.Context, w watched) {
	err := e.cfg.Manager.Watch(ctx, w.launch.Engine)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		e.log.Warn("engine ended by itself", "engine", w.launch.Engine, "err", err)
		e.cfg.Notices.Warn(endedNotice(w.launch.Engine))
	}
	if w.lease != nil {
		if err := w.lease.Release(); err != nil {
			e.log.Warn("lease of an engine not released", "engine", w.launch.Engine, "model", w.launch.Model, "err", err)
		}
	}
	e.cfg.Changed(ctx)
}

// endedNotice is what status says of an engine that ended by itself, until it is started
// again.
func endedNotice(name string) string {
	return fmt.Sprintf("The engine %s ended by itself; kitt-agent engines logs %s shows its last output", name, name)
}

// silent is an output that keeps nothing.
type silent struct{}

func (silent) WriteOutput([]byte, time.Time, runner.Position) error { return nil }
func (silent) WriteMessage(string) error                            { return nil }
