package execution

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kirizan/kitt-agent/agent/internal/jobs"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
	"github.com/kirizan/kitt-agent/storage"
)

// leaseTimeout bounds how long a job that is already running, or has ended, waits
// for its lease on the model.
const leaseTimeout = 10 * time.Second

// prepare fetches what the job needs, and lets it run. A cleanup or an engine command is
// done here and ends.
func (x *execution) prepare(ctx context.Context) {
	if x.job.Command.IsEngine() {
		x.doEngine(ctx)
		return
	}
	if !x.job.IsBenchmark() {
		x.recordOutcome(x.cleanUp(ctx))
		return
	}
	err := x.useProfile(ctx)
	if err == nil {
		err = x.checkJob(ctx)
	}
	if err == nil {
		err = x.makeRoom(ctx)
	}
	switch {
	case x.left || errors.Is(context.Cause(ctx), runner.ErrDetach):
		return
	case err != nil:
		x.finalize(x.job, x.jobLog, x.outcome(ctx, runner.Result{}, err))
		return
	}
	lease, err := x.fetchModel(ctx, x.job.Command.Spec.Model, leaseHolder(x.job))
	if err != nil {
		if !errors.Is(context.Cause(ctx), runner.ErrDetach) {
			x.finalize(x.job, x.jobLog, x.outcome(ctx, runner.Result{}, fmt.Errorf("model %s: %w", x.job.Command.Spec.Model, err)))
		}
		return
	}
	x.lease = lease
	if err := x.awaitRunner(ctx); err != nil {
		if !errors.Is(err, runner.ErrDetach) {
			x.releaseLease()
			x.finalize(x.job, x.jobLog, x.outcome(ctx, runner.Result{}, err))
		}
		return
	}
	x.RetryClean(ctx) // before anything shares the machine with it
	if err := x.awaitFit(ctx); err != nil {
		if !errors.Is(err, runner.ErrDetach) {
			x.releaseLease()
			x.finalize(x.job, x.jobLog, x.outcome(ctx, runner.Result{}, err))
		}
		return
	}
	// The intent is on disk before the runner hears of the job.
	begun := x.transition(ctx, jobs.StateRunning, func(rec *jobs.Record) {
		rec.StartedAt = time.Now()
		rec.ModelPath = lease.Path
		rec.ModelName = lease.Name
		rec.ModelFiles = lease.Files
		rec.ModelOrigin = lease.Origin
		rec.ModelHash = lease.Hash
		rec.Image = x.cfg.Image()
	})
	if begun {
		x.meet()
	}
}

// checkJob returns why the runner has nothing to run the job with, if it knows that
// before the model is copied.
func (x *execution) checkJob(ctx context.Context) (err error) {
	checker, ok := runner.As[runner.JobChecker](x.cfg.Runner)
	if !ok {
		return nil
	}
	defer x.catch(ctx, "runner", &err)
	return checker.CheckJob(x.runnerJob())
}

// fetchModel brings the model to local disk.
func (x *execution) fetchModel(ctx context.Context, model, holder string) (*storage.Lease, error) {
	messages := &messageWriter{log: x.jobLog}
	defer messages.flush()
	defer x.copies.Delete(x.job)
	return x.acquireModel(ctx, storage.Request{
		Model:  model,
		Holder: holder,
		Log:    messages,
		Progress: func(p storage.Progress) {
			x.copies.Store(x.job, p)
			x.cfg.CopyAdvanced(x.job, p)
		},
	})
}

// leaseHolder names the job to the storage. Agents of one machine may keep their
// models in one directory, so the name tells them apart: one agent at a time uses a
// Dir.
func leaseHolder(j *jobs.Job) string { return j.Dir }

// CopyProgress returns how far the copy of j's model is, nil if none is being made.
func (e *Executor) CopyProgress(j *jobs.Job) *storage.Progress {
	p, ok := e.copies.Load(j)
	if !ok {
		return nil
	}
	progress := p.(storage.Progress)
	return &progress
}

// acquireModel asks the storage for a model.
func (x *execution) acquireModel(ctx context.Context, req storage.Request) (lease *storage.Lease, err error) {
	defer x.catch(ctx, "storage", &err)
	lease, err = x.cfg.Storage.Acquire(ctx, req)
	if lease == nil && err == nil {
		err = errors.New("the storage gave neither a lease nor an error")
	}
	return lease, err
}

// renewLease renews a job's lease on its model after a restart. The benchmark has
// its model already, so a storage that cannot answer holds nothing up.
func (x *execution) renewLease(ctx context.Context) {
	model := x.job.Record().ModelPath
	if x.lease != nil || model == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	lease, err := x.acquireModel(ctx, storage.Request{Model: model, Holder: leaseHolder(x.job)})
	if err != nil {
		x.log.WarnContext(ctx, "lease not renewed", "job", x.job.ID, "model", model, "err", err)
		return
	}
	x.lease = lease
}

// releaseLease releases the lease on the model, if there is one.
func (x *execution) releaseLease() {
	if x.lease == nil {
		return
	}
	lease := x.lease
	x.lease = nil
	release := func() (err error) {
		defer x.catch(context.Background(), "storage", &err)
		return lease.Release()
	}
	if err := release(); err != nil {
		x.log.Warn("lease not released", "job", x.job.ID, "model", lease.Path, "err", err)
	}
}

// cleanUp removes the copies of models that a cleanup command names.
func (x *execution) cleanUp(ctx context.Context) jobs.Outcome {
	model := x.job.Command.Spec.Model
	eviction, err := x.evict(ctx, model)
	for _, path := range eviction.Removed {
		x.jobLog.Note("Removed " + base.Printable(path, 80))
	}
	for _, kept := range eviction.Kept {
		x.jobLog.Note(fmt.Sprintf("Kept %s: %s", base.Printable(kept.Path, 80), kept.Reason))
	}
	if errors.Is(err, storage.ErrNotFound) {
		x.jobLog.Note("There is no copy of " + base.Printable(model, 80) + " to remove")
		return x.outcome(ctx, runner.Result{}, nil)
	}
	if err != nil {
		return x.outcome(ctx, runner.Result{}, fmt.Errorf("cleanup: %w", err))
	}
	x.jobLog.Note(fmt.Sprintf("%d removed, %.2f GiB freed, %d kept", len(eviction.Removed), float64(eviction.BytesFreed)/(1<<30), len(eviction.Kept)))
	return x.outcome(ctx, runner.Result{}, nil)
}

func (x *execution) evict(ctx context.Context, model string) (eviction storage.Eviction, err error) {
	defer x.catch(ctx, "storage", &err)
	return x.cfg.Storage.Evict(ctx, model)
}
