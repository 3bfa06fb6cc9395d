package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// errChanged says that the storage changed meanwhile and that the model has to be
// looked up again.
var errChanged = errors.New("the storage changed in the meantime")

// maxLookups is how often a model is looked up before the request fails.
const maxLookups = 5

// Acquire implements [Storage]. Its errors are an [*Error] unless ctx ended it.
func (l *Local) Acquire(ctx context.Context, req Request) (*Lease, error) {
	return l.acquire(ctx, req, true)
}

// Pull brings a model here without holding it: even with AutoCleanup it stays
// until a job has used it or space is needed.
func (l *Local) Pull(ctx context.Context, req Request) (path, origin string, err error) {
	lease, err := l.acquire(ctx, req, false)
	if err != nil {
		return "", "", err
	}
	return lease.Path, lease.Origin, lease.Release()
}

func (l *Local) acquire(ctx context.Context, req Request, mayClean bool) (*Lease, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	name, err := parseModel(req.Model, l.cfg.Home)
	if err != nil {
		return nil, err
	}
	a := acquisition{l: l, req: req, out: newRequestLog(req), mayClean: mayClean}
	for range maxLookups {
		var lease *Lease
		lease, err = a.run(ctx, name)
		// An operation that ctx ended has not failed. What is joined to it has.
		if _, alone := err.(*Error); alone && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, errChanged) {
			if lease != nil && (lease.Name == "" || name.abs == "") {
				lease.Name = req.Model
			}
			return lease, err
		}
	}
	return nil, fault.New(ClassConflict, "try again", "another agent keeps changing model %q", req.Model)
}

// An acquisition is one call of Acquire.
type acquisition struct {
	l        *Local
	req      Request
	out      *requestLog
	mayClean bool // the last release may remove the copy

	view // as of the last run
}

// run looks the model up once, and takes a lease on it.
func (a *acquisition) run(ctx context.Context, name modelName) (lease *Lease, err error) {
	if a.view, err = a.l.view(ctx, false); err != nil {
		return nil, err
	}
	for _, top := range []string{a.st.dir, a.st.ShareMount} {
		if _, around := base.Below(name.abs, top); name.abs != "" && (around || name.abs == top) {
			return nil, fault.New(ClassInvalid, "name one model in it", "%q is a directory of models", a.req.Model)
		}
	}
	if a.dir != nil {
		rel, err := a.local(name)
		if err != nil {
			return nil, err
		}
		if rel != "" {
			return a.lease(ctx, rel)
		}
	}
	inPlace, isDir, err := a.inPlace(ctx, name)
	if err != nil {
		return nil, err
	}
	var refused error
	if inPlace != "" {
		here, err := a.ours(ctx, inPlace)
		if err != nil {
			return nil, err
		}
		if here != "" {
			if name, err = parseModel(here, ""); err != nil {
				return nil, err
			}
			return a.run(ctx, name)
		}
		if check := a.l.cfg.CheckModel; check != nil {
			if refused = check(inPlace); refused != nil {
				inPlace = ""
			}
		}
	}
	lease, missing, err := a.fromShare(ctx, name, inPlace != "")
	if lease != nil || err != nil {
		return lease, err
	}
	if missing != nil && !errors.Is(missing, ErrNotFound) && (inPlace != "" || name.identifier()) {
		a.out.line(missing.Error()) // the share is not mounted
	}
	if inPlace != "" {
		top, rel := a.l.cfg.linkTop(inPlace, isDir)
		return a.useLocal(ctx, top, rel, OriginInPlace)
	}
	if refused != nil {
		return nil, refused
	}
	return a.withoutCopy(name, missing)
}

// fromShare returns a lease on a copy of the model on the share. missing says why
// there is no such model, and is nil without a share.
func (a *acquisition) fromShare(ctx context.Context, name modelName, inPlace bool) (lease *Lease, missing, err error) {
	if a.st.ShareMount == "" || name.tagged() {
		return nil, nil, nil
	}
	if err := a.l.mounter.ensureMounted(ctx, a.st, a.out.line); err != nil {
		if ctx.Err() == nil && iofault.ClassOf(err) == ClassUnmounted {
			return nil, err, nil
		}
		return nil, nil, err
	}
	found, err := a.l.findOnShare(ctx, a.st, name, inPlace)
	if errors.Is(err, ErrNotFound) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	lease, err = a.leaseCopy(ctx, source{modelAt: found, top: a.st.ShareMount, target: found.rel})
	return lease, nil, err
}

// withoutCopy returns a lease on a model that an engine fetches, or says that there
// is none.
func (a *acquisition) withoutCopy(name modelName, missing error) (*Lease, error) {
	switch {
	case name.identifier():
		a.out.line(a.req.Model + " is not a path here; the engine fetches it")
		return NewLease(a.req.Model, OriginIdentifier, nil), nil
	case missing != nil:
		return nil, missing
	}
	return nil, &Error{Class: ClassNotFound, Text: fmt.Sprintf("there is no model %q on this machine, and no share is set", a.req.Model),
		Fix: "set model_share_source and model_share_mount, or put the model into " + a.st.dir, Err: ErrNotFound}
}

// A source is what is copied.
type source struct {
	modelAt        // below top
	top     string // the share, or a directory of this machine
	target  string // below the storage directory
	print   string // of a model of this machine: its copy is of this state
}

// local reports whether the model is on this machine.
func (s source) local() bool { return s.print != "" }

// leaseCopy returns a lease on a copy of a model.
func (a *acquisition) leaseCopy(ctx context.Context, from source) (*Lease, error) {
	before := a.st.dir
	v, err := a.l.view(ctx, true)
	if err != nil {
		return nil, err
	}
	if v.st.dir != before {
		return nil, errChanged
	}
	a.dir = v.dir
	target, found, err := a.targetOf(from.target)
	if err != nil {
		return nil, err
	}
	if found {
		if err := a.removeOutdated(ctx, target, from); err != nil {
			return nil, err
		}
		return a.lease(ctx, target)
	}
	taken, err := a.dir.takeLease(ctx, target, a.l.cfg.Owner, a.req, func() error { return nil })
	if err != nil {
		return nil, iofault.Explain("take a lease on", target, err)
	}
	err = a.l.inflight.wait(ctx, a.dir, target, a.copyRun(from, target), a.out)
	if err == nil {
		err = a.dir.locked(ctx, func() error { return iofault.Explain("use the copy of", target, a.dir.copies.touch(target)) })
	}
	if err != nil {
		return nil, errors.Join(err, a.releaser(taken, false)())
	}
	l := from.in(target).lease(a.dir.dir, OriginCopied, a.releaser(taken, a.auto()))
	l.Name = from.rel
	// That it can't be read now is no reason to do without the copy.
	if m, err := a.dir.copies.at(target); err == nil && m != nil {
		l.Hash = m.Hash
	}
	return l, nil
}

// targetOf returns where the model that belongs at rel is copied to, without
// links. found tells that it is there already.
func (a *acquisition) targetOf(rel string) (target string, found bool, err error) {
	if err := a.dir.setUp(); err != nil {
		return "", false, err
	}
	if target, err = a.dir.find(rel); target != "" || err != nil {
		return target, target != "", err
	}
	target, err = a.dir.resolve(rel)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, &Error{Class: ClassConflict, Text: fmt.Sprintf("%q cannot be copied into %s: %v", rel, a.dir.dir, err),
			Fix: "move the file or link in its way", Err: err}
	}
	if reserved(target) {
		return "", false, fault.New(ClassInvalid, "give the model another name on the share", "%q is a name that the storage uses itself", rel)
	}
	m, err := a.dir.copies.around(path.Dir(target))
	if err == nil && m != nil {
		err = fault.New(ClassConflict, "run: kitt-agent models rm "+m.Path, "%q is in the copy of %q, which was made before it was on the share", rel, m.Path)
	}
	return target, false, err
}

// removeOutdated removes the copy of a model of this machine that has changed since.
// It returns errChanged then.
func (a *acquisition) removeOutdated(ctx context.Context, target string, from source) error {
	m, err := a.dir.copies.at(target)
	if err != nil || m == nil || !from.local() || m.Print == from.print {
		return iofault.Explain("check the copy of", target, err)
	}
	a.out.line(filepath.Join(from.top, from.rel) + " has changed since its copy was made")
	kept, err := m.in(a.dir).remove(ctx, false)
	if err != nil {
		return iofault.Explain("remove", target, err)
	}
	if kept != "" {
		return fault.New(ClassConflict, "run: kitt-agent models rm "+target, "the copy of %q is outdated and stays because %s", target, kept)
	}
	return errChanged
}

// copyRun returns a function that copies a model.
func (a *acquisition) copyRun(from source, target string) func(context.Context, *inflight) error {
	l, dir := a.l, a.dir
	r := &copyRun{cfg: l.cfg, st: a.st, dir: dir, watchdog: l.watchdog, from: from, target: target, model: a.req.Model,
		wanted: l.wanted(a.st), log: l.cfg.Logger}
	return func(ctx context.Context, f *inflight) error {
		r.started, r.progress = f.started, &f.progress
		copied, err := r.run(ctx)
		if copied {
			l.inflight.work.Go(func() { dir.markDurable(target, l.closing, l.cfg.Logger) })
		}
		return err
	}
}

// auto reports whether the copy is removed after its last lease.
func (a *acquisition) auto() bool { return a.mayClean && a.st.AutoCleanup }
