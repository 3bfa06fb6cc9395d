package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
	"github.com/kirizan/kitt-agent/storage/internal/modelcopy"
	"github.com/kirizan/kitt-agent/storage/internal/modelset"
)

// Bounds of the search for a model by its name.
const (
	searchDepth   = 6
	searchEntries = 50_000
	searchTime    = 2 * time.Minute
)

// findOnShare returns where on the share the model is, and which files belong to
// it. The error matches [ErrNotFound] if it is not there.
func (l *Local) findOnShare(ctx context.Context, st state, name modelName, inPlace bool) (modelAt, error) {
	paths, search := name.candidates(st.dir, st.ShareMount, inPlace)
	var found modelAt
	err := l.watchdog.run(ctx, st.ShareMount, 1, func(ctx context.Context, timers []*opTimer) (err error) {
		t := timers[0]
		t.Begin(&opOpen, &st.ShareMount)
		src, err := modelcopy.OpenSource(st.ShareMount)
		t.End()
		if err != nil {
			return iofault.Explain("open the share", st.ShareMount, err)
		}
		defer func() { err = errors.Join(err, src.Close()) }()
		at, err := lookUp(ctx, src, t, paths)
		if at == "" && err == nil && search {
			at, err = searchFor(ctx, src, t, name.parts[len(name.parts)-1])
		}
		if err == nil && at == "" {
			err = &Error{Class: ClassNotFound, Text: "there is no model " + base.Names(name.text) + " on the share " + st.ShareMount,
				Fix: "name it by its path on the share", Err: ErrNotFound}
		}
		if err != nil {
			return err
		}
		found, err = wholeModel(src, t, at)
		return err
	})
	if err != nil {
		return modelAt{}, iofault.First(err)
	}
	return found, nil
}

// resolveModel returns the path without links of what is at rel on the share. Only
// a file that a link leads to keeps the link's name: engines tell a format by it,
// and a blob in a Hugging Face cache has none.
func resolveModel(src *modelcopy.Source, t *opTimer, rel string) (string, error) {
	at, err := src.Resolve(rel, t)
	if err != nil || path.Base(at) == path.Base(rel) {
		return at, err
	}
	info, err := src.Lstat(at, t)
	if err != nil || !info.Mode().IsRegular() {
		return at, err
	}
	dir, err := src.Resolve(path.Dir(rel), t)
	return path.Join(dir, path.Base(rel)), err
}

// lookUp returns the first of paths that is there.
func lookUp(ctx context.Context, src *modelcopy.Source, t *opTimer, paths []string) (string, error) {
	for _, candidate := range paths {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		at, err := resolveModel(src, t, candidate)
		switch {
		case err == nil && at != ".":
			return at, nil
		case err == nil:
			return "", fault.New(ClassInvalid, "name one model", "%q is the whole share", candidate)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		default:
			return "", iofault.Explain("look for", candidate, err)
		}
	}
	return "", nil
}

// searchFor returns the only file or directory of that name on the share. Links
// count as what they lead to.
func searchFor(ctx context.Context, src *modelcopy.Source, t *opTimer, name string) (string, error) {
	type level struct {
		dir   string
		depth int
	}
	var matches []string
	match := func(rel string) {
		if at, err := resolveModel(src, t, rel); err == nil && at != "." && !slices.Contains(matches, at) {
			matches = append(matches, at)
		}
	}
	seen, started := 0, time.Now()
	giveUp := func() error {
		if len(matches) > 1 {
			return nil
		}
		return &Error{Class: ClassNotFound, Text: base.Names(name) + " was not found for sure: the share is too large to search",
			Fix: "name the model by its path on the share", Err: ErrNotFound}
	}
	for queue := []level{{".", 0}}; len(queue) > 0; queue = queue[1:] {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		at := queue[0]
		t.Begin(&opList, &at.dir)
		dir, err := src.Open(at.dir)
		t.End()
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			continue // not ours to see, or gone
		}
		if err != nil {
			return "", iofault.Explain("search", at.dir, err)
		}
		for err == nil {
			t.Begin(&opList, &at.dir)
			var entries []fs.DirEntry
			entries, err = dir.ReadDir(1024)
			t.End()
			for _, d := range entries {
				seen++
				below := path.Join(at.dir, d.Name())
				switch {
				case d.Name() == name && (d.IsDir() || d.Type().IsRegular() || d.Type() == fs.ModeSymlink):
					match(below)
				case d.IsDir() && at.depth < searchDepth && !strings.HasPrefix(d.Name(), ".") && !modelset.Foreign(d.Name()):
					queue = append(queue, level{below, at.depth + 1})
				}
			}
			if seen > searchEntries || time.Since(started) > searchTime {
				err := errors.Join(giveUp(), dir.Close())
				if err != nil {
					return "", err
				}
				return "", ambiguous(name, matches)
			}
		}
		if closeErr := dir.Close(); !errors.Is(err, io.EOF) || closeErr != nil {
			return "", iofault.Explain("search", at.dir, errors.Join(err, closeErr))
		}
	}
	switch len(matches) {
	case 0:
		return "", nil
	case 1:
		return matches[0], nil
	}
	return "", ambiguous(name, matches)
}

func ambiguous(name string, matches []string) error {
	slices.Sort(matches)
	return fault.New(ClassAmbiguous, "name the one you want by its path", "%q could be any of %s", name, base.Names(matches[:min(len(matches), 10)]...))
}
