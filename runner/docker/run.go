package docker

import (
	"cmp"
	"context"
	"time"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/runner"
)

// CheckJob refuses a job of mode native: in its image kitt finds no engine.
func (*Runner) CheckJob(job runner.Job) error {
	if job.Mode != runner.ModeNative {
		return nil
	}
	return &runner.Error{
		Class: runner.ClassUnavailable,
		Text:  "engine_mode native needs the kitt command of this machine, since a container has no native engine",
		Fix:   "set runner: auto in agent.yaml and install kitt, or choose engine_mode docker",
		Err:   runner.ErrUnavailable,
	}
}

// Run runs job in a container of its own, follows it to its end and removes it.
func (r *Runner) Run(ctx context.Context, job runner.Job, out runner.Output) (runner.Result, error) {
	if ctx.Err() != nil {
		return runner.Result{}, context.Cause(ctx)
	}
	if err := cmp.Or(r.CheckJob(job), checkPaths(job)); err != nil {
		return runner.Result{}, err
	}
	if err := endProxy(ctx, job); err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	program, err := r.program.Find(ctx)
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	proxy, err := r.findProxy(ctx)
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	image, err := r.chooseImage(ctx, job, out)
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	siblings, err := r.siblings(ctx)
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	f := &follower{r: r, job: job, out: out}
	files, err := patiently(ctx, f.say, func() (*runFiles, error) { return makeRunFiles(job, out) })
	if err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	defer files.close()
	rec := record{
		Version: version, Job: job.ID, Image: image.ID, ImageName: image.Name, ImageDigest: image.Digest, At: time.Now().UTC(), Boot: base.BootID(), Kills: kernelKills(),
		Supervised: true,
	}
	for _, s := range siblings {
		rec.Siblings = append(rec.Siblings, s.ID)
	}
	// Before the container is created: a crash in between is found too.
	if _, err := patiently(ctx, f.say, func() (any, error) { return nil, writeRecord(job, rec) }); err != nil {
		return runner.Result{}, base.JoinCause(ctx, err)
	}
	f.rec, f.source, files.f = rec, files, f
	if _, err = patiently(ctx, f.say, func() (any, error) { return nil, r.startProxy(ctx, job, proxy) }); err == nil {
		err = f.begin(ctx, image.ID, program)
	}
	if err != nil {
		return f.begun(), f.undo(ctx, err)
	}
	return f.follow(ctx)
}
