package storage

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Models on this machine that are not the storage's copies are used where they are,
// once it is known that no file is missing. A container gets only the model, so one
// whose links lead out of it, as in Hugging Face's cache, gets a copy without links:
// below resolvedDir in the storage directory.

// resolvedDir is the directory of copies without links.
const resolvedDir = "resolved"

// resolvedPath returns where the copy without links of the model at the absolute
// path at belongs, whose links may lead anywhere below top. No such path is inside
// another one: a copy of a part of a model may be of an earlier state than one of
// all of it.
func resolvedPath(top, at string) string {
	name := path.Base(top)
	return path.Join(resolvedDir, name[:min(len(name), 100)]+"-"+keyOf(at)[:12], path.Base(at))
}

// inspectors is how many files of a model on this machine are examined in parallel.
const inspectors = 4

// useLocal returns a lease on the model that is at rel below top. Its links may
// lead anywhere below top.
func (a *acquisition) useLocal(ctx context.Context, top, rel, origin string) (*Lease, error) {
	whole, seen, err := a.inspect(ctx, top, rel)
	at := filepath.Join(top, whole.rel)
	if iofault.ClassOf(err) == ClassPermission && ctx.Err() == nil {
		a.out.line("cannot check whether the model is complete: " + err.Error())
		whole, err = modelAt{rel: rel}, nil
		at = filepath.Join(top, rel)
	}
	if err != nil {
		return nil, err
	}
	if !seen.Linked {
		a.out.line("using " + at)
		return whole.lease(top, origin, nil), nil
	}
	a.out.line("links in " + at + " lead out of it; making a copy without links")
	lease, err := a.leaseCopy(ctx, source{modelAt: whole, top: top, target: resolvedPath(top, at), print: seen.Print})
	if err == nil {
		lease.Name = ""
	}
	return lease, err
}

// inspect finds the whole of the model at rel and makes sure that no file is
// missing.
func (a *acquisition) inspect(ctx context.Context, top, rel string) (modelAt, modelcopy.Inspection, error) {
	var whole modelAt
	var seen modelcopy.Inspection
	err := a.watchdog.run(ctx, mountOf(filepath.Join(top, rel)), inspectors, func(ctx context.Context, timers []*opTimer) error {
		found, err := openWhole(timers[0], top, rel)
		if err != nil {
			return err
		}
		inspection, err := modelcopy.Inspect(ctx, modelcopy.Options{Share: top, Model: found.dir(), Files: found.files, Link: true, Note: func(string) {}}, timers)
		whole, seen = found, inspection
		return err
	})
	if err != nil {
		return modelAt{}, modelcopy.Inspection{}, a.explainEscape(iofault.First(err))
	}
	return whole, seen, nil
}

// explainEscape says what to do about a link that leads out of the directory that
// it may lead to.
func (a *acquisition) explainEscape(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Class == ClassEscape {
		return &Error{Class: e.Class, Text: e.Text, Fix: "add a directory with the model and what its links lead to to models.dirs in agent.yaml", Err: e}
	}
	return err
}

// openWhole is wholeModel for what is at rel below a directory of this machine.
func openWhole(t *opTimer, top, rel string) (whole modelAt, err error) {
	t.Begin(&opOpen, &top)
	src, err := modelcopy.OpenSource(top)
	t.End()
	if err != nil {
		return modelAt{}, iofault.Explain("open", top, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return wholeModel(src, t, rel)
}

// linkTop returns the directory that the links of a model elsewhere on this machine
// may lead to, and the model's path below it: one of the configured directories, the
// repository in Hugging Face's cache, or the model's own directory.
func (cfg Config) linkTop(at string, isDir bool) (top, rel string) {
	for _, dir := range cfg.ModelDirs {
		real, err := filepath.EvalSymlinks(expandHome(dir, cfg.Home))
		if err != nil {
			continue
		}
		if r, ok := base.Below(real, at); ok && (top == "" || len(real) < len(top)) {
			top, rel = real, r
		}
	}
	if top != "" {
		return top, rel
	}
	parts := strings.Split(at, "/")
	for i := 1; i+2 < len(parts); i++ {
		if strings.HasPrefix(parts[i], "models--") && parts[i+1] == "snapshots" {
			return strings.Join(parts[:i+1], "/"), strings.Join(parts[i+1:], "/")
		}
	}
	if isDir {
		return at, "."
	}
	return filepath.Dir(at), filepath.Base(at)
}

// keepName returns the path of a file that at leads to, real, with the name that at
// gives it if only that tells its format. Blobs in Hugging Face's cache
// have none.
func keepName(at, real string, info fs.FileInfo) string {
	base := filepath.Base(at)
	if !info.Mode().IsRegular() || !modelset.Weights(base) || modelset.Weights(real) {
		return real
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(at))
	if err != nil {
		return real
	}
	return filepath.Join(dir, base)
}

// named is keepName for what is at rel in the storage directory.
func (d *modelDir) named(rel, real string, info fs.FileInfo) string {
	if !info.Mode().IsRegular() || !modelset.Weights(rel) || modelset.Weights(real) {
		return real
	}
	dir, err := d.resolve(path.Dir(rel))
	if err != nil {
		return real
	}
	return path.Join(dir, path.Base(rel))
}
