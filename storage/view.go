package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// A view is the storage during one operation: the settings and the storage
// directory as they were at its start.
type view struct {
	st       state
	dir      *modelDir // nil if the storage directory doesn't exist yet
	home     string
	watchdog *watchdog
}

// view returns the settings and the storage directory, which it makes if create
// is set.
func (l *Local) view(ctx context.Context, create bool) (view, error) {
	v := view{st: l.current(), home: l.cfg.Home, watchdog: l.watchdog}
	if l.dirs.isClosed() {
		return v, errClosed
	}
	name := v.st.dir
	before := l.dirs.get(name)
	err := l.watchdog.probe(ctx, mountOf(name), &opOpen, name, func() error { return l.dirs.open(name, create) })
	if errors.Is(err, fs.ErrNotExist) && !create {
		return v, nil
	}
	if err != nil {
		if iofault.ClassOf(err) == "" && ctx.Err() == nil {
			err = &Error{Class: ClassUnreadable, Text: "the storage directory cannot be used: " + err.Error(),
				Fix: "make it, and give the agent's user write access to it", Err: err}
		}
		return v, err
	}
	if v.dir = l.dirs.get(name); v.dir == nil {
		return v, errClosed
	}
	if v.dir != before && v.dir.isSetUp() {
		if err := errors.Join(v.dir.resumeRemovals(ctx), v.dir.tmp.clean(), v.dir.removeTorn(ctx)); err != nil {
			l.cfg.Logger.WarnContext(ctx, "files left by a crash not removed", "dir", v.dir.dir, "err", err)
		}
	}
	return v, nil
}

// local returns where in the storage directory the model is, without links, or an
// empty string.
func (v view) local(name modelName) (string, error) {
	var rel string
	for _, top := range []string{v.st.dir, v.dir.dir, v.st.ShareMount} {
		if r, ok := base.Below(top, name.abs); ok {
			rel = r
			break
		}
	}
	if name.abs == "" {
		rel = name.rel()
	}
	if rel == "" {
		at, err := v.dir.copies.requested(name.text)
		if beneath.Inside(resolvedDir, at) { // its original has to be looked at first
			at = ""
		}
		return at, err
	}
	if reserved(rel) {
		return "", fault.New(ClassInvalid, "name a model", "%q is a path of the storage itself", name.text)
	}
	for _, at := range append([]string{rel}, modelset.FirstParts(rel)...) {
		if found, err := v.dir.find(at); found != "" || err != nil {
			return found, err
		}
	}
	return "", nil
}

// copyNamed returns the copy that a request for model means, or nil.
func (v view) copyNamed(model string) (*manifest, error) {
	name, err := parseModel(model, v.home)
	if err != nil {
		return nil, err
	}
	requested, err := v.dir.copies.requested(model)
	if err != nil {
		return nil, err
	}
	paths, _ := name.candidates(v.st.dir, v.st.ShareMount, false)
	if rel, ok := base.Below(v.dir.dir, name.abs); ok {
		paths = []string{rel}
	}
	if requested != "" {
		paths = append([]string{requested}, paths...)
	}
	for _, rel := range slices.Clone(paths) {
		paths = append(paths, modelset.FirstParts(rel)...)
	}
	for _, rel := range paths {
		real, err := v.dir.resolve(rel)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, iofault.Explain("look for", rel, err)
		}
		if m, err := v.dir.copies.at(real); m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil
}

// isMissing reports whether err says that a path doesn't exist.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// find returns the path without links of the model at rel, or an empty string if
// there is none. A directory that exists only because copies are below it is not a
// model.
func (d *modelDir) find(rel string) (string, error) {
	real, err := d.resolve(rel)
	if isMissing(err) {
		return "", nil
	}
	if err != nil {
		return "", iofault.Explain("look for", rel, err)
	}
	if real == "." || reserved(real) {
		return "", fault.New(ClassInvalid, "name a model", "%q is a path of the storage itself", rel)
	}
	info, err := d.root.Lstat(real)
	if err != nil {
		return "", iofault.Explain("look for", rel, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return "", notAModel(rel)
	}
	if info.IsDir() {
		only, err := d.holdsOnlyCopies(real)
		if err != nil || only {
			return "", err
		}
	}
	return d.named(rel, real, info), nil
}

func notAModel(name string) error {
	return fault.New(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", name)
}

// holdsOnlyCopies reports whether a directory contains nothing but copies, complete
// or not, and empty directories.
func (d *modelDir) holdsOnlyCopies(rel string) (bool, error) {
	if m, err := d.copies.around(rel); m != nil || err != nil {
		return false, err
	}
	foreign := false
	err := filepath.WalkDir(d.abs(rel), func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(d.dir, at)
		if err != nil {
			return err
		}
		m, err := d.copies.at(below)
		switch {
		case err != nil:
			return err
		case e.IsDir() && (m != nil || isOurs(e.Name())):
			return filepath.SkipDir
		case !e.IsDir() && m == nil:
			foreign = true
			return filepath.SkipAll
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, errChanged // another agent is removing a copy
	}
	if err != nil {
		return false, iofault.Explain("list", rel, err)
	}
	return !foreign, nil
}
