package storage

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/kirizan/kitt-agent/internal/base"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// inPlace returns the path without links of a model elsewhere on this machine, or
// an empty string, and whether it is a directory. A link to a file whose name tells
// nothing is returned itself, as [keepName] does.
func (v view) inPlace(ctx context.Context, name modelName) (path string, isDir bool, err error) {
	if name.abs == "" {
		return "", false, nil
	}
	for _, top := range []string{v.st.dir, v.st.ShareMount} {
		if _, ok := base.Below(top, name.abs); ok {
			return "", false, nil
		}
	}
	var found string
	err = v.watchdog.probe(ctx, mountOf(name.abs), &opStat, name.abs, func() error {
		real, err := filepath.EvalSymlinks(name.abs)
		if err != nil {
			return err
		}
		info, err := os.Stat(real)
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return notAModel(name.text)
		}
		found, isDir = keepName(name.abs, real, info), info.IsDir()
		return nil
	})
	if isMissing(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, iofault.Explain("look for", name.text, err)
	}
	return found, isDir, nil
}

// ours returns the configured path of something in the storage directory or on the
// share that was named by a path elsewhere: through a link, or because these
// directories are links themselves. Such a model has to be leased or copied. It
// returns an empty string for what is really elsewhere.
func (v view) ours(ctx context.Context, real string) (string, error) {
	type top struct{ name, real string }
	var tops []top
	if v.dir != nil {
		tops = append(tops, top{v.st.dir, v.dir.dir})
	}
	if share := v.st.ShareMount; share != "" {
		var at string
		err := v.watchdog.probe(ctx, share, &opOpen, share, func() error {
			if real, err := filepath.EvalSymlinks(share); err == nil {
				at = real
			}
			return nil // what cannot be resolved contains nothing
		})
		if err != nil {
			return "", err
		}
		if at != "" {
			tops = append(tops, top{share, at})
		}
	}
	for _, t := range tops {
		if rel, ok := base.Below(t.real, real); ok {
			return path.Join(t.name, rel), nil
		}
		if _, around := base.Below(real, t.real); around || real == t.real {
			return t.name, nil
		}
	}
	return "", nil
}
