package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// A modelAt is where a model is, on the share or below another directory.
type modelAt struct {
	// rel is the path of the model. Of a model that is several files of a directory
	// it is the path of the first. They are copied into a directory of that path.
	rel string

	// files are the names of these files; nil for a model that is a directory or one
	// file.
	files []string
}

// dir returns the directory of a model's files, or the model itself.
func (m modelAt) dir() string {
	if m.files == nil {
		return m.rel
	}
	return path.Dir(m.rel)
}

// main returns the path of what an engine is given, below a copy of the model: a
// file, or an empty string for the copy itself.
func (m modelAt) main() string {
	if m.files == nil || modelset.NeedsDirectory(m.files[0]) {
		return ""
	}
	return m.files[0]
}

// in returns where the model is in its copy at target.
func (m modelAt) in(target string) modelAt {
	if m.main() == "" {
		return modelAt{rel: target}
	}
	return modelAt{path.Join(target, m.main()), m.files}
}

// lease returns a lease on the model, which is below top.
func (m modelAt) lease(top, origin string, release func() error) *Lease {
	lease := NewLease(filepath.Join(top, m.rel), origin, release)
	for _, f := range m.files {
		lease.Files = append(lease.Files, filepath.Join(top, m.dir(), f))
	}
	return lease
}

// wholeLocal is wholeModel for what is at rel below a directory of this machine.
func (v view) wholeLocal(ctx context.Context, top, rel string) (modelAt, error) {
	var whole modelAt
	err := v.watchdog.run(ctx, mountOf(top), 1, func(_ context.Context, timers []*opTimer) (err error) {
		whole, err = openWhole(timers[0], top, rel)
		return err
	})
	if err != nil {
		return modelAt{}, err
	}
	return whole, nil
}

// maxNextTo is how many names the directory of a model's file may have.
const maxNextTo = 100_000

// wholeModel returns the model that the file or directory at rel belongs to: the
// directory of a shard, all parts of a split file, or rel alone.
func wholeModel(src *modelcopy.Source, t *opTimer, rel string) (modelAt, error) {
	name, dir := path.Base(rel), path.Dir(rel)
	alone := modelAt{rel: rel}
	if !modelset.MayHaveCompanions(name) {
		return alone, nil
	}
	info, err := src.Lstat(rel, t)
	if err != nil {
		return alone, iofault.Explain("look for", rel, err)
	}
	if info.IsDir() {
		return alone, nil
	}
	if modelset.NeedsDirectory(name) && dir != "." {
		return modelAt{rel: dir}, nil
	}
	names, err := namesIn(src, t, dir)
	if err != nil {
		return alone, err
	}
	files := modelset.Together(name, names)
	if len(files) == 1 && files[0] == name {
		return alone, nil
	}
	return modelAt{path.Join(dir, files[0]), files}, nil
}

// namesIn lists the names of files in a directory.
func namesIn(src *modelcopy.Source, t *opTimer, rel string) (names []string, err error) {
	t.Begin(&opList, &rel)
	defer t.End()
	dir, err := src.Open(rel)
	if err != nil {
		return nil, iofault.Explain("list", rel, err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		t.Begin(&opList, &rel)
		entries, err := dir.ReadDir(1024)
		for _, e := range entries {
			if e.Type().IsRegular() || e.Type() == fs.ModeSymlink {
				names = append(names, e.Name())
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return names, nil
		case err != nil:
			return nil, iofault.Explain("list", rel, err)
		case len(names) > maxNextTo:
			return nil, fault.New(ClassInvalid, "put the model into a directory of its own", "%q has more than %d files", rel, maxNextTo)
		}
	}
}
