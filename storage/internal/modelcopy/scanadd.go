package modelcopy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/storage/internal/beneath"
	"github.com/kirizan/kitt-agent/storage/internal/iofault"
)

// add puts f into the tree and returns it if it is a directory to be read.
func (s *scanner) add(f *found) (*scanDir, error) {
	at, src := path.Join(f.dir.path, f.name), path.Join(f.dir.src, f.name)
	m, followed := f.meta, false
	if m.mode&fs.ModeSymlink != 0 {
		if done, err := s.addLink(f, at, src); done || err != nil {
			return nil, err
		}
		m, src, followed = f.target, f.real, true
		s.tree.linked = true
	}
	switch {
	case m.mode.IsRegular():
		s.addFile(at, src, m)
		return nil, nil
	case m.mode.IsDir():
		return s.addDir(f, at, src, m, followed)
	default:
		s.note(fmt.Sprintf("left out %q: neither a file nor a directory", src))
		return nil, nil
	}
}

// addLink puts a symbolic link that stays one into the tree. It returns false for
// a link whose target is to be copied in its place.
func (s *scanner) addLink(f *found, at, src string) (done bool, err error) {
	text := f.text
	switch {
	case f.real == "" && f.err == nil: // stays in the tree
	case errors.Is(f.err, fs.ErrNotExist):
		s.note(fmt.Sprintf("left out %q: a link to nothing", src))
		if len(s.tree.dangling) < maxDangling {
			s.tree.dangling = append(s.tree.dangling, at)
		}
		return true, nil
	case f.err != nil:
		return true, iofault.Explain("follow the link", src, f.err)
	case s.staysIn(f.real):
		s.tree.linked = true
		text = beneath.RelativeLink(f.dir.path, strings.TrimPrefix(strings.TrimPrefix(f.real, s.model), "/"))
	default:
		return false, nil
	}
	s.put(entry{path: at, link: text, stamp: f.meta.stamp, kind: KindSymlink})
	return true, nil
}

// maxDangling is how many links to nothing are kept.
const maxDangling = 1000

// addDir puts a directory into the tree, unless it contains itself.
func (s *scanner) addDir(f *found, at, src string, m meta, followed bool) (*scanDir, error) {
	const remedy = "remove the link or mount that leads back"
	d := &scanDir{path: at, src: src, up: f.dir, id: [2]uint64{m.dev, m.ino}, depth: f.dir.depth + 1, top: f.dir.top + 1}
	if followed {
		d.top = 0
	}
	for up := f.dir; up != nil; up = up.up {
		if up.id == d.id && d.id[1] != 0 || up.src == d.src {
			return nil, fault.New(iofault.Loop, remedy, "directory %q contains itself as %q", up.src, path.Join(f.dir.src, f.name))
		}
	}
	if d.depth > maxDepth {
		return nil, fault.New(iofault.Loop, remedy, "%q is more than %d directories deep", src, maxDepth)
	}
	s.put(entry{path: at, stamp: m.stamp, kind: KindDir})
	return d, nil
}

// A firstLink is the entry that later hard links share their file with.
type firstLink struct {
	path string
	stamp
}

// addFile adds a file, as a hard link if the tree has its content already.
func (s *scanner) addFile(at, src string, m meta) {
	e := entry{path: at, stamp: m.stamp, kind: KindFile}
	e.holes = m.sparse()
	followed := src != path.Join(s.model, at)
	if followed {
		e.src = src
	}
	id := [2]uint64{m.dev, m.ino}
	first, ok := s.seen[id]
	// Some servers invent inode numbers, so they count only together with the
	// stamp.
	if ok = ok && m.links > 1 && first.same(m.stamp); !ok && followed {
		first, ok = s.bySrc[src]
	}
	if ok {
		e.kind, e.link = KindHardlink, first.path
	} else {
		if m.links > 1 {
			s.seen[id] = firstLink{at, m.stamp}
		}
		if followed {
			s.bySrc[src] = firstLink{at, m.stamp}
		}
	}
	s.put(e)
}
