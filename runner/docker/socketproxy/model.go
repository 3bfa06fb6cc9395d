package socketproxy

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/mount"

	"github.com/kirizan/kitt-agent/internal/base"
)

// maxEntries bounds how many files of a model are looked at for links.
const maxEntries = 200_000

// modelMount returns the mounts for a path of the job's model. kitt mounts the model,
// a directory in it, or the directory of a model that is one file or several. Of the
// latter only these files are mounted, since the rest is not the model's.
func (p Policy) modelMount(source, target string) ([]mount.Mount, error) {
	if p.Model == "" {
		return nil, p.refuseMount(source)
	}
	if source == filepath.Dir(p.Model) {
		return p.fileMounts(target)
	}
	if !base.Within(p.Model, source) {
		return nil, p.refuseMount(source)
	}
	real, err := filepath.EvalSymlinks(source)
	if err != nil || !p.mayShow(real) {
		return nil, p.refuseMount(source)
	}
	links, err := LinkMounts(real, target, append([]string{p.Model}, p.LinkDirs...))
	if err != nil {
		return nil, invalid("look for links in the model: %v", err)
	}
	return append([]mount.Mount{bindMount(real, target, true)}, links...), nil
}

// mayShow reports whether a resolved path is of the model, or where its links may lead.
func (p Policy) mayShow(real string) bool {
	return below(real, append([]string{p.Model}, p.LinkDirs...))
}

func below(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return base.Within(dir, path) })
}

// fileMounts returns the mounts of a model that is one file, or several, in the
// directory target.
func (p Policy) fileMounts(target string) (mounts []mount.Mount, err error) {
	files := p.Files
	if len(files) == 0 {
		files = []string{p.Model}
	}
	for _, file := range files {
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() || filepath.Dir(file) != filepath.Dir(p.Model) {
			return nil, p.refuseMount(filepath.Dir(p.Model))
		}
		mounts = append(mounts, bindMount(file, path.Join(target, filepath.Base(file)), true))
	}
	return mounts, nil
}

// A tree is a directory or file of the machine and where a container has it.
type tree struct{ source, target string }

// LinkMounts returns the mounts that a container needs so that links in the tree at
// source, which is mounted at target, lead where they do outside: one for each link that
// leads out of the tree. What a link leads to is mounted read-only if it is in one of
// dirs; other links are left dangling. source must be a path without links.
func LinkMounts(source, target string, dirs []string) ([]mount.Mount, error) {
	var mounts []mount.Mount
	seen := map[string]bool{target: true}
	entries := 0
	for trees := []tree{{source, target}}; len(trees) > 0; trees = trees[1:] {
		t := trees[0]
		err := filepath.WalkDir(t.source, func(file string, e fs.DirEntry, err error) error {
			if entries++; entries > maxEntries {
				return errors.New("it has too many files")
			}
			if err != nil || e.Type() != fs.ModeSymlink {
				return nil // what can't be read can't be linked from either
			}
			to, ok := t.follow(file, dirs)
			if ok && !base.Within(target, to.target) && !seen[to.target] {
				seen[to.target] = true
				mounts = append(mounts, bindMount(to.source, to.target, true))
				trees = append(trees, to) // it may be a directory with links of its own
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return mounts, nil
}

// follow returns where a link in the tree leads to outside, and where it does in a
// container. ok is false if the latter needs no mount, or what it leads to is in none of
// dirs.
func (t tree) follow(link string, dirs []string) (to tree, ok bool) {
	text, err := os.Readlink(link)
	if err != nil {
		return tree{}, false
	}
	at := text
	if !path.IsAbs(text) {
		at = path.Join(path.Dir(path.Join(t.target, link[len(t.source):])), text)
	}
	at = path.Clean(at)
	if base.Within(t.target, at) || base.Within(at, t.target) {
		return tree{}, false // inside, or a directory that holds all of it
	}
	real, err := filepath.EvalSymlinks(link)
	return tree{real, at}, err == nil && (below(real, dirs) || below(real, resolved(dirs)))
}

// resolved returns directories without links in their paths. Those that are not there
// are left out.
func resolved(dirs []string) (all []string) {
	for _, dir := range dirs {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			all = append(all, real)
		}
	}
	return all
}
