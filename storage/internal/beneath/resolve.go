package beneath

import (
	"io/fs"
	"path"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// maxLinks is how many links Resolve follows for one path, as in the kernel.
const maxLinks = 40

// A LinkReader is the part of [os.Root] that Resolve needs.
type LinkReader interface {
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
}

// Resolve follows all symbolic links in rel, which is relative to root, and
// returns the path without links. seenAt lists the absolute paths of root: an
// absolute link must lead below one of them. A path that leads out of root is a
// [fault.Error] of class Escape. If a component is missing, the error matches
// [fs.ErrNotExist], and the path is the resolved part followed by the rest.
func Resolve(root LinkReader, seenAt []string, rel string) (string, error) {
	r := resolver{root: root, seenAt: seenAt, rel: rel, todo: strings.Split(rel, "/")}
	for len(r.todo) > 0 {
		part := r.todo[0]
		r.todo = r.todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(r.done) == 0 {
				return "", Escapes(rel)
			}
			r.done = r.done[:len(r.done)-1]
			continue
		}
		if missing, err := r.enter(part); err != nil {
			return missing, err
		}
	}
	if len(r.done) == 0 {
		return ".", nil
	}
	return strings.Join(r.done, "/"), nil
}

// A resolver is one call of Resolve.
type resolver struct {
	root   LinkReader
	seenAt []string
	rel    string
	done   []string // components without links
	todo   []string
	links  int // followed
}

// enter appends part to done or, if it is a link, puts its target before todo.
// With an error it returns the path to report for a missing component.
func (r *resolver) enter(part string) (missing string, err error) {
	at := strings.Join(append(r.done, part), "/")
	info, err := r.root.Lstat(at)
	if err != nil {
		rest := path.Join(append([]string{at}, r.todo...)...)
		if rest == ".." || strings.HasPrefix(rest, "../") {
			return "", Escapes(r.rel)
		}
		return rest, err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		r.done = append(r.done, part)
		return "", nil
	}
	if r.links++; r.links > maxLinks {
		return "", fault.New(iofault.Loop, "remove the link that leads back to itself", "%q has more than %d symbolic links in it", r.rel, maxLinks)
	}
	target, err := r.root.Readlink(at)
	if err != nil {
		return "", err
	}
	if path.IsAbs(target) {
		below, ok := belowRoot(target, r.seenAt)
		if !ok {
			return "", Escapes(r.rel)
		}
		target, r.done = below, nil
	}
	r.todo = append(strings.Split(target, "/"), r.todo...)
	return "", nil
}

// belowRoot makes an absolute link's target relative to the root that is seen at
// seenAt. It compares the prefix as text and leaves any ".." in place.
func belowRoot(target string, seenAt []string) (string, bool) {
	for _, base := range seenAt {
		if base == "" {
			continue
		}
		if target == base {
			return ".", true
		}
		if rel, ok := strings.CutPrefix(target, strings.TrimSuffix(base, "/")+"/"); ok {
			return rel, true
		}
	}
	return "", false
}

// Escapes returns the error for a path that leads out of its directory.
func Escapes(rel string) error {
	return fault.New(iofault.Escape, "replace the link with the files themselves, or name the path it leads to", "%q leads out of its directory", rel)
}
