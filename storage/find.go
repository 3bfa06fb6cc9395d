package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// localPath returns where in the storage directory the model is, without links,
// or an empty text.
func (l *Local) localPath(p *place, st state, name modelName) (string, error) {
	var rel string
	for _, base := range []string{st.dir, p.dir, st.ShareMount} {
		if r, ok := below(base, name.abs); ok {
			rel = r
			break
		}
	}
	if name.abs == "" {
		rel = name.rel()
	}
	if rel == "" {
		return p.asked(name.text)
	}
	if reserved(rel) {
		return "", fail(ClassInvalid, "name a model", "%q is the storage's own", name.text)
	}
	return p.find(rel)
}

// asked returns the path of the copy that was made for a request of that text.
func (p *place) asked(text string) (string, error) {
	all, err := p.copies()
	if err != nil {
		return "", explain("list the copies in", p.dir, err)
	}
	for _, m := range all {
		if slices.Contains(m.Requests, rawText(text)) {
			return m.Path, nil
		}
	}
	return "", nil
}

// find returns the path without links of the model at rel, or an empty text if
// there is none. A directory that is there only because copies are below it is
// no model.
func (p *place) find(rel string) (string, error) {
	real, err := p.resolve(rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", explain("look for", rel, err)
	}
	if real == "." || reserved(real) {
		return "", fail(ClassInvalid, "name a model", "%q is the storage's own", rel)
	}
	info, err := p.root.Lstat(real)
	if err != nil {
		return "", explain("look for", rel, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return "", fail(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", rel)
	}
	if info.IsDir() {
		shell, err := p.shell(real)
		if err != nil || shell {
			return "", err
		}
	}
	return real, nil
}

// shell reports whether the directory rel holds nothing but copies of ours,
// whole or not, and empty directories.
func (p *place) shell(rel string) (bool, error) {
	if m, err := p.copyAround(rel); m != nil || err != nil {
		return false, err
	}
	foreign := false
	err := filepath.WalkDir(p.abs(rel), func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(p.dir, at)
		if err != nil {
			return err
		}
		m, err := p.copyAt(below)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (m != nil || isOurs(d.Name())):
			return filepath.SkipDir
		case !d.IsDir() && m == nil:
			foreign = true
			return filepath.SkipAll
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, errAgain // somebody removes a copy at this moment
	}
	if err != nil {
		return false, explain("look at", rel, err)
	}
	return !foreign, nil
}

// inPlace returns the path without links of a model elsewhere on this machine,
// or an empty text.
func (l *Local) inPlace(ctx context.Context, st state, name modelName) (string, error) {
	if name.abs == "" {
		return "", nil
	}
	for _, base := range []string{st.dir, st.ShareMount} {
		if _, ok := below(base, name.abs); ok {
			return "", nil
		}
	}
	var found string
	err := l.gates.probe(ctx, mountOf(name.abs), &opStat, name.abs, func() error {
		real, err := filepath.EvalSymlinks(name.abs)
		if err != nil {
			return err
		}
		info, err := os.Stat(real)
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return fail(ClassInvalid, "name a directory or a file", "%q is neither a directory nor a file", name.text)
		}
		found = real
		return nil
	})
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "", nil
	default:
		return "", explain("look for", name.text, err)
	}
	return found, nil
}

// ours returns the path in the storage directory or on the share, as these are
// set, of what is elsewhere only by its name: by a link, or because they are
// links themselves. What is there is to be leased or copied. The path is empty
// for what is elsewhere.
func (l *Local) ours(ctx context.Context, st state, p *place, real string) (string, error) {
	type top struct{ name, real string }
	var tops []top
	if p != nil {
		tops = append(tops, top{st.dir, p.dir})
	}
	if st.ShareMount != "" {
		err := l.gates.probe(ctx, st.ShareMount, &opOpen, st.ShareMount, func() error {
			if at, err := filepath.EvalSymlinks(st.ShareMount); err == nil {
				tops = append(tops, top{st.ShareMount, at})
			}
			return nil // what cannot be found holds nothing
		})
		if err != nil {
			return "", err
		}
	}
	for _, t := range tops {
		if rel, ok := below(t.real, real); ok {
			return path.Join(t.name, rel), nil
		}
		if _, around := below(real, t.real); around || real == t.real {
			return t.name, nil
		}
	}
	return "", nil
}
